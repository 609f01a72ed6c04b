//! When a guard validates again, and when it ends.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::SemaphorePermit,
    time::{self, Instant},
};

use super::{
    Ended,
    credentials::{Credentials, StillValid},
    registry::{Pending, Registration},
};
use crate::{Client, Denied, Error};

/// How long a guard tries to get a decision after a change that names it.
const NAMED_LIMIT: Duration = Duration::from_secs(1);
const MIN_RETRY_DELAY: Duration = Duration::from_millis(50);
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Without the stream, answers are used for as long as the service allows, within these limits.
const MIN_FRESH_TIME: Duration = Duration::from_secs(1);
const DEFAULT_FRESH_TIME: Duration = Duration::from_secs(5);
/// The clock of this machine may be set while a guard waits.
const MAX_WAIT: Duration = Duration::from_secs(3_600);

/// A guard at work.
pub(super) struct Rounds {
    pub(super) client: Client,
    pub(super) credentials: Arc<Credentials>,
    pub(super) registration: Registration,
}

/// Why a guard validates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// A round of its own, such as the first, or the next one without the stream.
    Due,
    /// Changes may have been missed.
    Missed,
    /// A change names it.
    Named,
    /// The expiry has passed.
    Expired(SystemTime),
}

type Decision = Result<StillValid, Denied>;

impl Rounds {
    /// Returns when the principal may no longer be used.
    pub(super) async fn run(self) -> Ended {
        // The first round finds what changed between the admission and the registration; usually in the near-cache.
        let mut cause = Cause::Due;
        let mut undecided_since = None;
        loop {
            let started = *undecided_since.get_or_insert_with(Instant::now);
            let limit = match cause {
                Cause::Due => started + self.registration.registry.tolerance,
                Cause::Missed | Cause::Named | Cause::Expired(_) => Instant::now() + NAMED_LIMIT,
            };
            cause = match (self.decide(cause, limit).await, cause) {
                (Ok(Ok(valid)), Cause::Expired(at))
                    if valid.expires_at.is_some_and(|expiry| expiry <= at) =>
                {
                    return Ended::Expired;
                }
                (Ok(Ok(valid)), _) => {
                    undecided_since = None;
                    self.next_cause(valid).await
                }
                (Ok(Err(denied)), _) => return Ended::Denied(denied),
                (Err(_), Cause::Expired(_)) => return Ended::Expired,
                (Err(error), _) => return Ended::Undecided(error),
            };
        }
    }

    /// Validates until there is a decision, or until a limit.
    async fn decide(&self, cause: Cause, mut limit: Instant) -> Result<Decision, Error> {
        let signal = &self.registration.signal;
        let mut last = Error::DeadlineExceeded;
        let mut delay = if cause == Cause::Due { RETRY_DELAY } else { MIN_RETRY_DELAY };
        let mut is_first = true;
        loop {
            let permit = self.permit(cause, limit).await;
            if is_first && cause == Cause::Missed {
                // Its turn has come only now.
                limit = Instant::now() + NAMED_LIMIT;
            }
            is_first = false;
            // Boxed: an idle guard must not hold the space of a call.
            match time::timeout_at(limit, Box::pin(self.credentials.validate(&self.client))).await {
                Ok(Ok(decision)) => return Ok(decision),
                Ok(Err(error)) => last = error,
                Err(_) => return Err(last),
            }
            drop(permit);
            if cause == Cause::Due {
                tokio::select! {
                    () = time::sleep_until(limit.min(Instant::now() + delay)) => {}
                    // A change that names the guard leaves less time.
                    () = signal.woken.notified() => {
                        if signal.take() == Pending::Named {
                            limit = limit.min(Instant::now() + NAMED_LIMIT);
                            delay = MIN_RETRY_DELAY;
                        }
                    }
                }
            } else {
                time::sleep_until(limit.min(Instant::now() + delay)).await;
                delay *= 2;
            }
            if Instant::now() >= limit {
                return Err(last);
            }
        }
    }

    /// Waits for its turn, so that not all guards call together. Guards that a change names do not wait.
    async fn permit(&self, cause: Cause, limit: Instant) -> Option<SemaphorePermit<'_>> {
        let Registration { registry, signal, .. } = &self.registration;
        match cause {
            Cause::Named | Cause::Expired(_) => None,
            Cause::Missed => registry.permits.acquire().await.ok(),
            Cause::Due => tokio::select! {
                permit = registry.permits.acquire() => permit.ok(),
                () = signal.named() => None,
                () = time::sleep_until(limit) => None,
            },
        }
    }

    /// Waits until the guard must validate again.
    async fn next_cause(&self, valid: StillValid) -> Cause {
        let Registration { registry, signal, .. } = &self.registration;
        let fresh_time = if valid.fresh_for.is_zero() { DEFAULT_FRESH_TIME } else { valid.fresh_for };
        // At different times, so that guards that lost the stream together do not call together.
        let fresh_time = fresh_time.mul_f64(fastrand::f64().mul_add(0.25, 0.75)).max(MIN_FRESH_TIME);
        let mut due = None;
        loop {
            match signal.take() {
                Pending::Named => return Cause::Named,
                Pending::Missed => return Cause::Missed,
                Pending::Nothing => {}
            }
            due = if registry.is_live() && valid.is_covered {
                None
            } else {
                Some(due.unwrap_or_else(|| Instant::now() + fresh_time))
            };
            let now = registry.server_now();
            if let Some(expiry) = valid.expires_at.filter(|expiry| *expiry <= now) {
                return Cause::Expired(expiry.max(now));
            }
            if due.is_some_and(|due| due <= Instant::now()) {
                return Cause::Due;
            }
            let until_expiry = valid.expires_at.and_then(|expiry| expiry.duration_since(now).ok());
            let wait = Instant::now() + until_expiry.unwrap_or(MAX_WAIT).min(MAX_WAIT);
            tokio::select! {
                () = signal.woken.notified() => {}
                () = time::sleep_until(due.map_or(wait, |due| due.min(wait))) => {}
            }
        }
    }
}
