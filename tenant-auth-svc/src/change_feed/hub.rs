//! Passes on what the feed hears to whoever has subscribed.
//!
//! An event is put into one ring, once, however many subscribers there are; each reads it at its own pace. One that
//! falls behind by more than the ring holds is cut off: nothing is kept for anybody. A sign of life is given only after
//! a successful read of the feed, so that it vouches for what it says: everything up to its revision was told.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt as _, future::ready, stream};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::{
    domain::{
        clock::SharedClock,
        verdict::Revision,
        watch::{Invalidation, Told, WatchError, Watchable},
    },
    instruments::counts::Counter,
};

/// How many events the ring holds. At four readings of the feed and one sign of life a second, minutes.
const RING: usize = 1_024;
/// How many changes are kept for those who come back.
const KEPT: usize = 10_000;
/// How many of these are given at once to somebody who catches up: so much is in memory for each who does, and reads slowly.
const PAGE: usize = 100;
/// How often a sign of life is given.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Where the feed tells, and subscribers listen. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: SharedClock,
    /// Whether the feed is followed at all.
    followed: bool,
    past: Mutex<Past>,
    cut_off: Counter,
}

#[derive(Debug)]
struct Past {
    /// `None` once this replica is going.
    ring: Option<broadcast::Sender<Told>>,
    changes: VecDeque<Invalidation>,
    /// Up to where the log was read.
    position: Revision,
    /// From where on `changes` is complete; `None` before the first reading.
    complete_after: Option<Revision>,
    last_heartbeat: Option<Duration>,
}

impl Hub {
    /// A hub for a feed that is followed, or is not.
    #[must_use]
    pub fn new(clock: SharedClock, followed: bool) -> Self {
        let past = Past {
            ring: Some(broadcast::Sender::new(RING)),
            changes: VecDeque::new(),
            position: Revision::default(),
            complete_after: None,
            last_heartbeat: None,
        };
        Self(Arc::new(Inner { clock, followed, past: Mutex::new(past), cut_off: Counter::default() }))
    }

    /// The log goes on with these.
    pub(super) fn changed(&self, changes: Vec<Invalidation>, position: Revision) {
        let mut past = self.past();
        past.position = position;
        past.changes.extend(changes.iter().cloned());
        while past.changes.len() > KEPT {
            past.complete_after = past.changes.pop_front().map(|oldest| oldest.revision);
        }
        if !changes.is_empty() {
            past.tell(Told::Changed(changes.into()));
        }
    }

    /// The log begins here, or does not go on from where it was read.
    pub(super) fn started_over(&self, position: Revision, reason: &'static str) {
        let mut past = self.past();
        past.changes.clear();
        past.position = position;
        past.complete_after = Some(position);
        past.tell(Told::StartOver { revision: position, reason });
    }

    /// The log was read to its end.
    pub(super) fn alive(&self) {
        let now = self.0.clock.monotonic();
        let mut past = self.past();
        if past.last_heartbeat.is_some_and(|last| now.saturating_sub(last) < HEARTBEAT) {
            return;
        }
        past.last_heartbeat = Some(now);
        let revision = past.position;
        past.tell(Told::Alive { revision, at: self.0.clock.now() });
    }

    /// Has subscribers start over for a reason that is in no log, and so has no revision: what they keep may be wrong. Whoever is not
    /// subscribed at this moment does not hear of it.
    pub fn start_over(&self, reason: &'static str) {
        let past = self.past();
        past.tell(Told::StartOver { revision: past.position, reason });
    }

    /// Ends every subscription: this replica is going.
    pub fn close(&self) {
        self.past().ring = None;
    }

    /// How many have subscribed.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.past().ring.as_ref().map_or(0, broadcast::Sender::receiver_count)
    }

    /// How many were cut off because they fell too far behind.
    #[must_use]
    pub fn cut_off(&self) -> u64 {
        self.0.cut_off.get()
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        // Every change is made of steps that leave it usable.
        self.0.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Past {
    fn tell(&self, told: Told) {
        if let Some(ring) = &self.ring {
            // Nobody has to listen.
            let _ = ring.send(told);
        }
    }

    /// What to tell next to somebody who was told everything up to a revision, of what there is up to another; `None` when
    /// that is nothing.
    fn missed(&self, after: Revision, until: Revision) -> Option<Told> {
        let start_over = |reason| Some(Told::StartOver { revision: self.position, reason });
        match self.complete_after {
            None => start_over("this replica has not read the change log yet"),
            Some(from) if after < from => start_over("the changes since then are not kept here"),
            Some(_) => {
                let begin = self.changes.partition_point(|change| change.revision <= after);
                let end = self.changes.partition_point(|change| change.revision <= until);
                let page = self.changes.range(begin..end.max(begin).min(begin + PAGE));
                let page: Vec<_> = page.cloned().collect();
                (!page.is_empty()).then(|| Told::Changed(page.into()))
            }
        }
    }
}

impl Watchable for Hub {
    async fn watch(
        &self,
        after: Option<Revision>,
    ) -> Result<impl Stream<Item = Result<Told, WatchError>> + Send + 'static, WatchError> {
        if !self.0.followed {
            return Err(WatchError::NoFeed);
        }
        // Both under one lock: nothing is told between the two.
        let (until, ring, ahead) = {
            let past = self.past();
            let ring = past.ring.as_ref().ok_or(WatchError::Going)?.subscribe();
            let ahead = after.filter(|after| *after > past.position).map(Ahead::of);
            (past.position, ring, ahead)
        };
        // Page by page, when it is asked for.
        let hub = self.clone();
        let missed = stream::unfold(after, move |after| {
            let told = after.and_then(|after| hub.past().missed(after, until));
            let next = match &told {
                Some(Told::Changed(page)) => page.last().map(|change| change.revision),
                _ => None,
            };
            ready(told.map(|told| (told, next)))
        });
        let hub = self.clone();
        let live = stream::unfold((Some(ring), ahead, hub), |(ring, mut ahead, hub)| async move {
            let mut ring = ring?;
            loop {
                let told = match ring.recv().await {
                    Ok(told) => told,
                    Err(RecvError::Lagged(behind)) => {
                        hub.0.cut_off.one();
                        return Some((Err(WatchError::TooSlow(behind)), (None, None, hub)));
                    }
                    Err(RecvError::Closed) => return Some((Err(WatchError::Going), (None, None, hub))),
                };
                if let Some(told) = Ahead::catch_up(&mut ahead, told) {
                    return Some((Ok(told), (Some(ring), ahead, hub)));
                }
            }
        });
        Ok(missed.map(Ok).chain(live))
    }
}

/// A subscriber who was told more than this replica has read: most likely by another replica, a reading ahead of this
/// one; perhaps out of a log that is no more.
struct Ahead {
    of: Revision,
    /// Signs of life that did not reach it. The first one may follow a reading that began before the subscription.
    short: u8,
}

impl Ahead {
    fn of(revision: Revision) -> Self {
        Self { of: revision, short: 0 }
    }

    /// Leaves out what the subscriber knows, until this replica has caught up, or turns out to read another log.
    fn catch_up(ahead: &mut Option<Self>, told: Told) -> Option<Told> {
        let Some(still) = ahead else { return Some(told) };
        match told {
            Told::Changed(changes) => {
                let new: Vec<_> =
                    changes.iter().filter(|change| change.revision > still.of).cloned().collect();
                (!new.is_empty()).then(|| {
                    *ahead = None;
                    Told::Changed(new.into())
                })
            }
            Told::Alive { revision, .. } if revision < still.of => {
                still.short += 1;
                (still.short > 1).then(|| {
                    *ahead = None;
                    Told::StartOver { revision, reason: "the change log ends before what was told already" }
                })
            }
            Told::Alive { .. } | Told::StartOver { .. } => {
                *ahead = None;
                Some(told)
            }
        }
    }
}

#[cfg(test)]
mod tests;
