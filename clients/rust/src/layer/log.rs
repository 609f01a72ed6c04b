//! Says that keys are not decided about, and not once for each of a thousand requests a second.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http::HeaderMap;
use tokio::time::Instant;

use crate::Error;

const EVERY: Duration = Duration::from_secs(1);
const LONGEST_ID: usize = 128;

/// At most one line a second, with the number of requests that it stands for.
#[derive(Debug, Default)]
pub(super) struct Log(Mutex<Since>);

#[derive(Debug, Default)]
struct Since {
    line: Option<Instant>,
    untold: u64,
}

impl Log {
    pub(super) fn undecided(&self, error: &Error, request_id: Option<&str>) {
        if let Some(requests) = self.due() {
            tracing::warn!(%error, request_id, requests, "a key was not decided about");
        }
    }

    /// How many requests a line stands for, if one is due.
    fn due(&self) -> Option<u64> {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.untold += 1;
        if since.line.is_some_and(|line| line.elapsed() < EVERY) {
            return None;
        }
        since.line = Some(Instant::now());
        Some(std::mem::take(&mut since.untold))
    }
}

/// What the request is known by, if it can be shown.
pub(super) fn request_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get("x-request-id")?.to_str().ok()?;
    (id.len() <= LONGEST_ID).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_line_a_second_stands_for_all() {
        let log = Log::default();
        assert_eq!([log.due(), log.due(), log.due()], [Some(1), None, None]);
        tokio::time::advance(EVERY).await;
        assert_eq!([log.due(), log.due()], [Some(3), None]);
    }
}
