//! Logs what fails on this side, with a rate limit.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http::HeaderMap;
use tokio::time::Instant;

use crate::Error;
#[cfg(feature = "mcp")]
use crate::NotRecorded;

const LOG_INTERVAL: Duration = Duration::from_secs(1);
const MAX_REQUEST_ID_LEN: usize = 128;

/// A log of at most one line per second, with the number of requests that it stands for.
#[derive(Debug, Default)]
pub(crate) struct LimitedLog(Mutex<LogState>);

#[derive(Debug, Default)]
struct LogState {
    last_logged_at: Option<Instant>,
    unlogged_count: u64,
}

impl LimitedLog {
    pub(crate) fn log_undecided(&self, error: &Error, request_id: Option<&str>) {
        if let Some(requests) = self.take_due_count() {
            tracing::warn!(%error, request_id, requests, "key could not be validated");
        }
    }

    #[cfg(feature = "mcp")]
    pub(crate) fn log_unrecorded(&self, error: &NotRecorded, metric: &str) {
        if let Some(operations) = self.take_due_count() {
            tracing::error!(%error, metric, operations, "usage not recorded");
        }
    }

    /// Returns the number of requests that a line stands for, if a line is due.
    fn take_due_count(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.unlogged_count += 1;
        if state.last_logged_at.is_some_and(|at| at.elapsed() < LOG_INTERVAL) {
            return None;
        }
        state.last_logged_at = Some(Instant::now());
        Some(std::mem::take(&mut state.unlogged_count))
    }
}

/// Returns the request id, if it is safe to log.
pub(crate) fn loggable_request_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get("x-request-id")?.to_str().ok()?;
    (id.len() <= MAX_REQUEST_ID_LEN).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn log_is_limited_to_one_line_per_second() {
        let log = LimitedLog::default();
        assert_eq!([log.take_due_count(), log.take_due_count(), log.take_due_count()], [Some(1), None, None]);
        tokio::time::advance(LOG_INTERVAL).await;
        assert_eq!([log.take_due_count(), log.take_due_count()], [Some(3), None]);
    }
}
