//! Ends a connection whose peer harms others: by reading nothing that it is given, or by giving up nearly everything that it
//! asks for.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

use super::vitals::Vitals;
use crate::transport::limits::Limits;

/// Why a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abuse {
    /// Nothing of what waits to be read was, for as long as may be.
    ReadsNothing,
    /// So many requests were given up, and so few were not ("rapid reset", CVE-2023-44487).
    GivesUpEverything,
}

/// Of how many requests that were given up there must be one that was answered: a proxy that ends a hundred calls because
/// one client has left answers those of others meanwhile.
const CANCELLED_PER_ANSWERED: u64 = 100;
/// Above so many answers that wait to be read on one worker, each costing a few kilobytes, peers get less time to read on.
const MANY_UNREAD: u64 = 10_000;
/// By how much less.
const HASTE: u32 = 10;
/// In how much time so many are given up that it counts.
const WINDOW: Duration = Duration::from_secs(10);

/// Looks at the [`Vitals`] of a connection whenever something happens on it.
#[derive(Debug)]
pub(super) struct Watchdog {
    vitals: Arc<Vitals>,
    patience: Duration,
    most_cancelled: u64,
    /// While something waits to be read: when to look whether anything was, and how much had been.
    stall: Option<(Pin<Box<Sleep>>, u64)>,
    /// Where the requests that are counted begin.
    since: Instant,
    cancelled: u64,
    answered: u64,
}

impl Watchdog {
    pub(super) fn new(vitals: Arc<Vitals>, limits: &Limits) -> Self {
        Self {
            vitals,
            patience: limits.unread,
            most_cancelled: limits.cancelled,
            stall: None,
            since: Instant::now(),
            cancelled: 0,
            answered: 0,
        }
    }

    /// Ready when the connection is to be ended.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Abuse> {
        if self.gives_up_everything() {
            return Poll::Ready(Abuse::GivesUpEverything);
        }
        while self.vitals.unread() > 0 {
            let is_crowded = self.vitals.all_unread() > MANY_UNREAD;
            let patience = if is_crowded { self.patience / HASTE } else { self.patience };
            let read = self.vitals.read();
            let (timer, before) =
                self.stall.get_or_insert_with(|| (Box::pin(tokio::time::sleep(patience)), read));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if *before == read {
                return Poll::Ready(Abuse::ReadsNothing);
            }
            self.stall = None;
        }
        self.stall = None;
        Poll::Pending
    }

    fn gives_up_everything(&mut self) -> bool {
        let cancelled = self.vitals.cancelled() - self.cancelled;
        if cancelled < self.most_cancelled {
            return false;
        }
        let answered = self.vitals.answered() - self.answered;
        let is_rush = self.since.elapsed() < WINDOW;
        (self.since, self.cancelled, self.answered) =
            (Instant::now(), self.vitals.cancelled(), self.vitals.answered());
        is_rush && answered < cancelled / CANCELLED_PER_ANSWERED
    }
}
