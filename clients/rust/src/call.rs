//! Common parts of all calls: a deadline, retries where they help, and validation of responses.

mod attempt;
mod retry_budget;
#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};

use self::{attempt::Attempt, retry_budget::RetryBudget};
use crate::{
    Error,
    transport::{Route, Transport},
};

/// Maximum attempts of one call, the first included. Each retry also draws on the retry budget.
const MAX_ATTEMPTS: u32 = 4;
const INITIAL_RETRY_DELAY: Duration = Duration::from_millis(50);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(1);
/// An attempt without a response after this fraction of the call's timeout is also sent to another replica.
const HEDGE_TIMEOUT_DIVISOR: u32 = 4;

/// Sends requests and waits for responses. Clones share the connections and the retry budget.
#[derive(Clone, Debug)]
pub(crate) struct RpcClient {
    transport: Transport,
    timeout: Duration,
    hedge_after: Option<Duration>,
    budget: Arc<RetryBudget>,
    /// Whether its calls were started before the client was closed.
    ignores_close: bool,
}

/// What a call may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// It only reads: it may be sent to two replicas at once.
    ReadOnly,
    /// It may be repeated once it is known to have failed.
    Idempotent,
    /// It must not be repeated if it may have reached a replica.
    NotIdempotent,
}

/// The outcome of one attempt of a call.
struct Attempted<R> {
    outcome: Result<R, Error>,
    /// The replica that it was sent to, if it was sent.
    replica_id: Option<u64>,
    /// Whether the call may be sent again.
    is_repeatable: bool,
}

impl RpcClient {
    pub(crate) fn new(transport: Transport, timeout: Duration, hedge_after: Option<Duration>) -> Self {
        Self { transport, timeout, hedge_after, budget: Arc::new(RetryBudget::new()), ignores_close: false }
    }

    pub(crate) fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sends a read-only request, with retries and hedging, until there is a response, a permanent error or
    /// no time left.
    pub(crate) async fn call_hedged<M: Clone, R, F>(
        &self,
        message: M,
        send: impl Fn(Transport, Request<M>) -> F,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.call_with_retries(Effect::ReadOnly, message, send).await
    }

    /// Sends an idempotent request, with retries, until there is a response, a permanent error or no time
    /// left.
    pub(crate) async fn call_retried<M: Clone, R, F>(
        &self,
        message: M,
        send: impl Fn(Transport, Request<M>) -> F,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.call_with_retries(Effect::Idempotent, message, send).await
    }

    /// Sends a request that must not be repeated, with retries only while it was not sent, until there is a
    /// response, an error or no time left.
    pub(crate) async fn call_retried_unsent<M: Clone, R, F>(
        &self,
        message: M,
        send: impl Fn(Transport, Request<M>) -> F,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.call_with_retries(Effect::NotIdempotent, message, send).await
    }

    /// Sends a request once, without retries.
    pub(crate) async fn call_once<M: Clone, R, F>(
        &self,
        message: M,
        send: impl Fn(Transport, Request<M>) -> F,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.check_open()?;
        self.attempt(self.timeout, &message, &send).run(&Arc::default(), None).await
    }

    async fn call_with_retries<M: Clone, R, F>(
        &self,
        effect: Effect,
        message: M,
        send: impl Fn(Transport, Request<M>) -> F,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.check_open()?;
        let hedges = (effect == Effect::ReadOnly).then_some(&*self.budget);
        let (message, send) = (&message, &send);
        let attempt = |left, avoided| {
            let route = Arc::new(Route::avoiding(avoided));
            let attempt = self.attempt(left, message, send);
            async move {
                let outcome = attempt.run(&route, hedges).await;
                let replica_id = route.connection().map(|connection| connection.replica_id());
                let is_repeatable = effect != Effect::NotIdempotent || !route.may_have_arrived();
                Attempted { outcome, replica_id, is_repeatable }
            }
        };
        retry(self.timeout, &self.budget, || self.transport.is_connected(), attempt).await
    }

    fn attempt<'a, M, S>(&'a self, limit: Duration, message: &'a M, send: &'a S) -> Attempt<'a, M, S> {
        let hedge_after = self.hedge_after.unwrap_or(self.timeout / HEDGE_TIMEOUT_DIVISOR);
        Attempt { transport: &self.transport, timeout: limit, hedge_after, message, send }
    }

    /// # Errors
    /// [`Error::Closed`] after [`Client::close`](crate::Client::close).
    #[inline]
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        if self.transport.is_closed() && !self.ignores_close { Err(Error::Closed) } else { Ok(()) }
    }

    /// Returns a client for a call that was already started: it is sent even if the client is closed
    /// meanwhile.
    pub(crate) fn ignoring_close(&self) -> Self {
        Self { ignores_close: true, ..self.clone() }
    }
}

/// Retries until there is a response, a permanent error, or neither time nor budget left.
///
/// A draining replica sends GOAWAY on all connections at the same time. That affects more calls than the
/// budget covers, and sending them to another replica adds no load. So the first retry after a lost
/// connection is free while other replicas are connected (`is_served`).
async fn retry<R, F>(
    limit: Duration,
    budget: &RetryBudget,
    is_served: impl Fn() -> bool,
    attempt: impl Fn(Duration, Option<u64>) -> F,
) -> Result<R, Error>
where
    F: Future<Output = Attempted<R>>,
{
    let deadline = Instant::now() + limit;
    budget.deposit();
    let mut avoided = None;
    for tries in 1.. {
        let Attempted { outcome, replica_id, is_repeatable } =
            attempt(deadline.saturating_duration_since(Instant::now()), avoided).await;
        let error = match outcome {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        avoided = replica_id;
        let Some(delay) = retry_delay(&error, tries)
            .filter(|delay| is_repeatable && *delay < deadline.saturating_duration_since(Instant::now()))
        else {
            return Err(error);
        };
        let is_free = tries == 1 && matches!(error, Error::Unreachable { .. }) && is_served();
        if tries == MAX_ATTEMPTS || !(is_free || budget.try_withdraw()) {
            return Err(error);
        }
        tokio::time::sleep(delay).await;
    }
    Err(Error::DeadlineExceeded)
}

/// Returns the delay before the next attempt; `None` if a retry is of no use.
fn retry_delay(error: &Error, tries: u32) -> Option<Duration> {
    let backoff = jittered_backoff(INITIAL_RETRY_DELAY, MAX_RETRY_DELAY, tries);
    match error {
        // Another replica may be healthy.
        Error::Unreachable { .. } => Some(backoff),
        // Not before the time that the service gave, plus a random delay so that clients do not all return at
        // that time.
        Error::Unavailable { retry_after, .. } => {
            Some(retry_after.unwrap_or_default().saturating_add(backoff))
        }
        // Without a time it is a limit that waiting does not lift.
        Error::Overloaded { retry_after, .. } => retry_after.map(|time| time.saturating_add(backoff)),
        _ => None,
    }
}

/// Returns a random delay below a bound that doubles with each attempt ("full jitter"), so that clients that
/// failed together do not retry together.
pub(crate) fn jittered_backoff(first: Duration, max: Duration, tries: u32) -> Duration {
    let bound = first.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(max);
    bound.mul_f64(fastrand::f64())
}

/// Returns a field that the contract requires in a response.
pub(crate) fn required_field<T>(part: Option<T>, name: &str) -> Result<T, Error> {
    part.ok_or_else(|| invalid_reply(format!("the response has no {name}")))
}

/// Parses a timestamp of a response.
pub(crate) fn parse_time(message: impl TryInto<SystemTime>) -> Result<SystemTime, Error> {
    let time = message.try_into();
    time.map_err(|_| invalid_reply("the response has a timestamp that this machine cannot represent"))
}

/// Parses a duration of a response.
pub(crate) fn parse_duration(message: impl TryInto<Duration>) -> Result<Duration, Error> {
    let duration = message.try_into();
    duration.map_err(|_| invalid_reply("the response has a negative duration"))
}

/// Returns the error for a response that breaks the contract.
pub(crate) fn invalid_reply(message: impl Into<String>) -> Error {
    Error::Other { code: Code::Internal, message: message.into() }
}
