//! Ends a connection whose peer harms others: it reads none of its responses, or it cancels nearly all of its
//! requests.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

use super::request_counts::RequestCounts;
use crate::transport::limits::ConnectionLimits;

/// The reason why a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AbuseReason {
    /// The peer has read none of the waiting data for the maximum time.
    Stalled,
    /// The peer cancelled many requests and let few be answered ("rapid reset", CVE-2023-44487).
    RapidReset,
}

/// The maximum number of cancelled requests per answered one. A proxy that cancels a hundred calls because
/// one client disconnected also has answered calls of other clients.
const MAX_CANCELLED_PER_ANSWERED: u64 = 100;
/// With more unread responses than this on one worker, each of a few kilobytes, peers get less time to read.
const CROWDED_UNREAD_COUNT: u64 = 10_000;
/// The divisor of the unread timeout on a crowded worker.
const CROWDED_TIMEOUT_DIVISOR: u32 = 10;
/// The window in which cancelled requests are counted.
const CANCELLATION_WINDOW: Duration = Duration::from_secs(10);

/// Checks the [`RequestCounts`] of a connection on every event of the connection.
#[derive(Debug)]
pub(super) struct Watchdog {
    counts: Arc<RequestCounts>,
    unread_timeout: Duration,
    max_cancelled: u64,
    /// Set while a response is unread: the time of the next check, and the read count at the previous one.
    stall_timer: Option<(Pin<Box<Sleep>>, u64)>,
    /// The start of the current window.
    window_start: Instant,
    cancelled_at_start: u64,
    answered_at_start: u64,
}

impl Watchdog {
    pub(super) fn new(counts: Arc<RequestCounts>, limits: &ConnectionLimits) -> Self {
        Self {
            counts,
            unread_timeout: limits.unread_timeout,
            max_cancelled: limits.max_cancelled,
            stall_timer: None,
            window_start: Instant::now(),
            cancelled_at_start: 0,
            answered_at_start: 0,
        }
    }

    /// Ready if the connection must be ended.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<AbuseReason> {
        if self.is_rapid_reset() {
            return Poll::Ready(AbuseReason::RapidReset);
        }
        while self.counts.unread() > 0 {
            let is_crowded = self.counts.worker_unread() > CROWDED_UNREAD_COUNT;
            let timeout =
                if is_crowded { self.unread_timeout / CROWDED_TIMEOUT_DIVISOR } else { self.unread_timeout };
            let read = self.counts.read_count();
            let (timer, before) =
                self.stall_timer.get_or_insert_with(|| (Box::pin(tokio::time::sleep(timeout)), read));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if *before == read {
                return Poll::Ready(AbuseReason::Stalled);
            }
            self.stall_timer = None;
        }
        self.stall_timer = None;
        Poll::Pending
    }

    fn is_rapid_reset(&mut self) -> bool {
        let cancelled = self.counts.cancelled() - self.cancelled_at_start;
        if cancelled < self.max_cancelled {
            return false;
        }
        let answered = self.counts.answered() - self.answered_at_start;
        let is_rush = self.window_start.elapsed() < CANCELLATION_WINDOW;
        (self.window_start, self.cancelled_at_start, self.answered_at_start) =
            (Instant::now(), self.counts.cancelled(), self.counts.answered());
        is_rush && answered < cancelled / MAX_CANCELLED_PER_ANSWERED
    }
}
