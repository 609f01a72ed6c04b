//! Ends a connection whose peer harms others: by reading nothing that it is given, or by giving up nearly everything that it
//! asks for.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

use super::request_counts::RequestCounts;
use crate::transport::limits::ConnectionLimits;

/// Why a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AbuseReason {
    /// Nothing of what waits to be read was, for as long as may be.
    Stalled,
    /// So many requests were given up, and so few were not ("rapid reset", CVE-2023-44487).
    RapidReset,
}

/// Of how many requests that were given up there must be one that was answered: a proxy that ends a hundred calls because
/// one client has left answers those of others meanwhile.
const MAX_CANCELLED_PER_ANSWERED: u64 = 100;
/// Above so many answers that wait to be read on one worker, each costing a few kilobytes, peers get less time to read on.
const CROWDED_UNREAD_COUNT: u64 = 10_000;
/// By how much less.
const CROWDED_TIMEOUT_DIVISOR: u32 = 10;
/// In how much time so many are given up that it counts.
const CANCELLATION_WINDOW: Duration = Duration::from_secs(10);

/// Looks at the [`RequestCounts`] of a connection whenever something happens on it.
#[derive(Debug)]
pub(super) struct Watchdog {
    counts: Arc<RequestCounts>,
    unread_timeout: Duration,
    max_cancelled: u64,
    /// While something waits to be read: when to look whether anything was, and how much had been.
    stall_timer: Option<(Pin<Box<Sleep>>, u64)>,
    /// Where the requests that are counted begin.
    window_start: Instant,
    cancelled_at_start: u64,
    answered_at_start: u64,
}

impl Watchdog {
    pub(super) fn new(vitals: Arc<RequestCounts>, limits: &ConnectionLimits) -> Self {
        Self {
            counts: vitals,
            unread_timeout: limits.unread_timeout,
            max_cancelled: limits.max_cancelled,
            stall_timer: None,
            window_start: Instant::now(),
            cancelled_at_start: 0,
            answered_at_start: 0,
        }
    }

    /// Ready when the connection is to be ended.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<AbuseReason> {
        if self.is_rapid_reset() {
            return Poll::Ready(AbuseReason::RapidReset);
        }
        while self.counts.unread() > 0 {
            let is_crowded = self.counts.worker_unread() > CROWDED_UNREAD_COUNT;
            let patience =
                if is_crowded { self.unread_timeout / CROWDED_TIMEOUT_DIVISOR } else { self.unread_timeout };
            let read = self.counts.read_count();
            let (timer, before) =
                self.stall_timer.get_or_insert_with(|| (Box::pin(tokio::time::sleep(patience)), read));
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
