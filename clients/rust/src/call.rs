//! What every call has in common: a limit in time, another try where that helps, and replies that are read with care.

mod budget;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};

use self::budget::Budget;
use crate::{Error, transport::Transport};

/// Tries of one call, the first included. Each is counted against the budget as well.
const MOST_TRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(25);
const LONGEST_WAIT: Duration = Duration::from_millis(400);

/// Sends messages and waits for replies. Clones share the connections and the budget.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    transport: Transport,
    timeout: Duration,
    budget: Arc<Budget>,
}

impl Caller {
    pub(crate) fn new(transport: Transport, timeout: Duration) -> Self {
        Self { transport, timeout, budget: Arc::new(Budget::new()) }
    }

    pub(crate) fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    pub(crate) fn transport(&self) -> Transport {
        self.transport.clone()
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sends a message that may be sent again without harm, until there is an answer, a lasting error, or no time left.
    pub(crate) async fn call<M: Clone, R, F>(
        &self,
        message: M,
        send: impl Fn(Transport, Request<M>) -> F,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let attempt = |left| within(left, message.clone(), |request| send(self.transport.clone(), request));
        patiently(self.timeout, &self.budget, || self.transport.is_served(), attempt).await
    }

    /// Sends a message once.
    pub(crate) async fn call_once<M, R, F>(
        &self,
        message: M,
        send: impl FnOnce(Transport, Request<M>) -> F,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        within(self.timeout, message, |request| send(self.transport.clone(), request)).await
    }
}

/// Tries until there is an answer, a lasting error, or neither time nor budget left.
///
/// A replica that goes away takes leave of all who are about to ask it at once: more than the budget has, and to ask another
/// one is no more load than there was. So one more try after that costs nothing, as long as others serve (`is_served`).
async fn patiently<R, F>(
    limit: Duration,
    budget: &Budget,
    is_served: impl Fn() -> bool,
    attempt: impl Fn(Duration) -> F,
) -> Result<R, Error>
where
    F: Future<Output = Result<R, Error>>,
{
    let deadline = Instant::now() + limit;
    budget.call();
    for tries in 1.. {
        let error = match attempt(deadline.saturating_duration_since(Instant::now())).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let Some(wait) = wait(&error, tries).filter(|wait| Instant::now() + *wait < deadline) else {
            return Err(error);
        };
        let moves_on = tries == 1 && matches!(error, Error::Unreachable { .. }) && is_served();
        if tries == MOST_TRIES || !(moves_on || budget.may_retry()) {
            return Err(error);
        }
        tokio::time::sleep(wait).await;
    }
    Err(Error::DeadlineExceeded)
}

/// How long to wait before another try; `None` when it is of no use.
fn wait(error: &Error, tries: u32) -> Option<Duration> {
    let own = jittered(FIRST_WAIT, LONGEST_WAIT, tries);
    match error {
        // Another replica may be well.
        Error::Unreachable { .. } => Some(own),
        // Not before the time that the service gave, and not everybody at that time.
        Error::Unavailable { retry_after, .. } => Some(retry_after.unwrap_or_default() + own),
        // Without a time it is a limit that waiting does not lift.
        Error::Overloaded { retry_after, .. } => retry_after.map(|time| time + own),
        _ => None,
    }
}

/// A random wait below a bound that doubles with each try ("full jitter"): callers that failed together do not come
/// back together.
pub(crate) fn jittered(first: Duration, longest: Duration, tries: u32) -> Duration {
    let bound = first.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(longest);
    bound.mul_f64(fastrand::f64())
}

/// Sends a message and waits for the reply, at most `limit`. The service is told the limit.
async fn within<M, R, F>(limit: Duration, message: M, send: impl FnOnce(Request<M>) -> F) -> Result<R, Error>
where
    F: Future<Output = Result<Response<R>, Status>>,
{
    let mut request = Request::new(message);
    request.set_timeout(limit);
    // The header alone would bound the reply's beginning only, not its body.
    match tokio::time::timeout(limit, send(request)).await {
        Ok(reply) => Ok(reply?.into_inner()),
        Err(_) => Err(Error::DeadlineExceeded),
    }
}

/// A part of a reply that the contract promises.
pub(crate) fn present<T>(part: Option<T>, name: &str) -> Result<T, Error> {
    part.ok_or_else(|| broken(format!("the reply holds no {name}")))
}

/// A moment in a reply.
pub(crate) fn time(message: impl TryInto<SystemTime>) -> Result<SystemTime, Error> {
    let time = message.try_into();
    time.map_err(|_| broken("the reply holds a time outside this machine's range"))
}

/// A span of time in a reply.
pub(crate) fn duration(message: impl TryInto<Duration>) -> Result<Duration, Error> {
    let duration = message.try_into();
    duration.map_err(|_| broken("the reply holds a negative duration"))
}

/// A reply that breaks the contract.
pub(crate) fn broken(message: impl Into<String>) -> Error {
    Error::Other { code: Code::Internal, message: message.into() }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    async fn tries(error: impl Fn() -> Error, succeeds_at: u32, budget: &Budget) -> (u32, bool) {
        tries_where(true, error, succeeds_at, budget).await
    }

    async fn tries_where(
        is_served: bool,
        error: impl Fn() -> Error,
        succeeds_at: u32,
        budget: &Budget,
    ) -> (u32, bool) {
        let count = AtomicU32::new(0);
        let attempt = async |_| {
            let number = count.fetch_add(1, Ordering::Relaxed) + 1;
            if number == succeeds_at { Ok(()) } else { Err(error()) }
        };
        let outcome = patiently(Duration::from_secs(3), budget, || is_served, attempt).await;
        (count.into_inner(), outcome.is_ok())
    }

    fn unavailable(retry_after: Option<Duration>) -> Error {
        Error::Unavailable { message: String::new(), reason: None, retry_after }
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_tried_again_and_not_for_ever() {
        let budget = Budget::new();
        assert_eq!(tries(|| unavailable(None), 3, &budget).await, (3, true));
        assert_eq!(tries(|| unavailable(None), 99, &budget).await, (MOST_TRIES, false));
    }

    #[tokio::test(start_paused = true)]
    async fn what_lasts_is_not_tried_again() {
        let budget = Budget::new();
        let full = || Error::Overloaded { message: String::new(), retry_after: None };
        assert_eq!(tries(full, 2, &budget).await, (1, false));
        assert_eq!(tries(|| Error::DeadlineExceeded, 2, &budget).await, (1, false));
        let invalid = || Error::Invalid { message: String::new(), violations: Vec::new() };
        assert_eq!(tries(invalid, 2, &budget).await, (1, false));
    }

    #[tokio::test(start_paused = true)]
    async fn the_services_own_time_is_kept_and_one_beyond_the_deadline_ends_the_call() {
        let budget = Budget::new();
        let started = Instant::now();
        let soon = || unavailable(Some(Duration::from_secs(1)));
        assert_eq!(tries(soon, 2, &budget).await, (2, true));
        assert!(started.elapsed() >= Duration::from_secs(1));
        let late = || unavailable(Some(Duration::from_secs(4)));
        assert_eq!(tries(late, 2, &budget).await, (1, false));
    }

    #[tokio::test(start_paused = true)]
    async fn in_an_outage_the_budget_ends_before_the_patience() {
        let budget = Budget::new();
        let mut sent = 0;
        for _ in 0..1_000 {
            sent += tries(|| unavailable(None), 99, &budget).await.0;
        }
        // A tenth, and what was saved up before.
        assert!((1_100..=1_110).contains(&sent), "{sent}");
    }

    #[tokio::test(start_paused = true)]
    async fn to_move_on_from_a_replica_that_went_away_costs_nothing_while_there_are_others() {
        let away = || Error::Unreachable { message: String::new() };
        let budget = Budget::new();
        for _ in 0..100 {
            assert_eq!(tries_where(true, away, 2, &budget).await, (2, true));
        }
        // Nothing was taken; all who run into a second one that is away pay for it.
        assert_eq!(tries_where(true, away, 99, &budget).await, (MOST_TRIES, false));
        let mut sent = 0;
        for _ in 0..1_000 {
            sent += tries_where(false, away, 99, &budget).await.0;
        }
        assert!((1_100..=1_110).contains(&sent), "{sent}");
    }
}
