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
        watch::{Invalidation, WatchError, WatchEvent, Watchable},
    },
    instruments::counts::Counter,
};

/// How many events the ring holds. At four readings of the feed and one sign of life a second, minutes.
const RING_CAPACITY: usize = 1_024;
/// How many changes are kept for those who come back.
const MAX_RETAINED_CHANGES: usize = 10_000;
/// How many of these are given at once to somebody who catches up: so much is in memory for each who does, and reads slowly.
const CHANGES_PER_PAGE: usize = 100;
/// How often a sign of life is given.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Where the feed tells, and subscribers listen. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct Hub(Arc<HubInner>);

#[derive(Debug)]
struct HubInner {
    clock: SharedClock,
    /// Whether the feed is followed at all.
    is_feed_enabled: bool,
    history: Mutex<ChangeHistory>,
    dropped_subscribers: Counter,
}

#[derive(Debug)]
struct ChangeHistory {
    /// `None` once this replica is going.
    ring: Option<broadcast::Sender<WatchEvent>>,
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
        let past = ChangeHistory {
            ring: Some(broadcast::Sender::new(RING_CAPACITY)),
            changes: VecDeque::new(),
            position: Revision::default(),
            complete_after: None,
            last_heartbeat: None,
        };
        Self(Arc::new(HubInner {
            clock,
            is_feed_enabled: followed,
            history: Mutex::new(past),
            dropped_subscribers: Counter::default(),
        }))
    }

    /// The log goes on with these.
    pub(super) fn publish_changes(&self, changes: Vec<Invalidation>, position: Revision) {
        let mut past = self.lock_history();
        past.position = position;
        past.changes.extend(changes.iter().cloned());
        while past.changes.len() > MAX_RETAINED_CHANGES {
            past.complete_after = past.changes.pop_front().map(|oldest| oldest.revision);
        }
        if !changes.is_empty() {
            past.publish(WatchEvent::Changed(changes.into()));
        }
    }

    /// The log begins here, or does not go on from where it was read.
    pub(super) fn publish_discontinuity(&self, position: Revision, reason: &'static str) {
        let mut past = self.lock_history();
        past.changes.clear();
        past.position = position;
        past.complete_after = Some(position);
        past.publish(WatchEvent::StartOver { revision: position, reason });
    }

    /// The log was read to its end.
    pub(super) fn publish_heartbeat(&self) {
        let now = self.0.clock.monotonic();
        let mut past = self.lock_history();
        if past.last_heartbeat.is_some_and(|last| now.saturating_sub(last) < HEARTBEAT_INTERVAL) {
            return;
        }
        past.last_heartbeat = Some(now);
        let revision = past.position;
        past.publish(WatchEvent::Heartbeat { revision, at: self.0.clock.now() });
    }

    /// Has subscribers start over for a reason that is in no log, and so has no revision: what they keep may be wrong. Whoever is not
    /// subscribed at this moment does not hear of it.
    pub fn restart_subscribers(&self, reason: &'static str) {
        let past = self.lock_history();
        past.publish(WatchEvent::StartOver { revision: past.position, reason });
    }

    /// Ends every subscription: this replica is going.
    pub fn close(&self) {
        self.lock_history().ring = None;
    }

    /// How many have subscribed.
    #[must_use]
    pub fn subscriber_count(&self) -> usize {
        self.lock_history().ring.as_ref().map_or(0, broadcast::Sender::receiver_count)
    }

    /// How many were cut off because they fell too far behind.
    #[must_use]
    pub fn dropped_subscribers(&self) -> u64 {
        self.0.dropped_subscribers.get()
    }

    fn lock_history(&self) -> MutexGuard<'_, ChangeHistory> {
        // Every change is made of steps that leave it usable.
        self.0.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ChangeHistory {
    fn publish(&self, told: WatchEvent) {
        if let Some(ring) = &self.ring {
            // Nobody has to listen.
            let _ = ring.send(told);
        }
    }

    /// What to tell next to somebody who was told everything up to a revision, of what there is up to another; `None` when
    /// that is nothing.
    fn next_missed(&self, after: Revision, until: Revision) -> Option<WatchEvent> {
        let start_over = |reason| Some(WatchEvent::StartOver { revision: self.position, reason });
        match self.complete_after {
            None => start_over("this replica has not read the change log yet"),
            Some(from) if after < from => start_over("the changes since then are not kept here"),
            Some(_) => {
                let begin = self.changes.partition_point(|change| change.revision <= after);
                let end = self.changes.partition_point(|change| change.revision <= until);
                let page = self.changes.range(begin..end.max(begin).min(begin + CHANGES_PER_PAGE));
                let page: Vec<_> = page.cloned().collect();
                (!page.is_empty()).then(|| WatchEvent::Changed(page.into()))
            }
        }
    }
}

impl Watchable for Hub {
    async fn watch(
        &self,
        after: Option<Revision>,
    ) -> Result<impl Stream<Item = Result<WatchEvent, WatchError>> + Send + 'static, WatchError> {
        if !self.0.is_feed_enabled {
            return Err(WatchError::FeedDisabled);
        }
        // Both under one lock: nothing is told between the two.
        let (until, ring, ahead) = {
            let past = self.lock_history();
            let ring = past.ring.as_ref().ok_or(WatchError::ShuttingDown)?.subscribe();
            let ahead = after.filter(|after| *after > past.position).map(SubscriberAhead::new);
            (past.position, ring, ahead)
        };
        // Page by page, when it is asked for.
        let hub = self.clone();
        let missed = stream::unfold(after, move |after| {
            let told = after.and_then(|after| hub.lock_history().next_missed(after, until));
            let next = match &told {
                Some(WatchEvent::Changed(page)) => page.last().map(|change| change.revision),
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
                        hub.0.dropped_subscribers.increment();
                        return Some((Err(WatchError::TooSlow(behind)), (None, None, hub)));
                    }
                    Err(RecvError::Closed) => {
                        return Some((Err(WatchError::ShuttingDown), (None, None, hub)));
                    }
                };
                if let Some(told) = SubscriberAhead::filter_known(&mut ahead, told) {
                    return Some((Ok(told), (Some(ring), ahead, hub)));
                }
            }
        });
        Ok(missed.map(Ok).chain(live))
    }
}

/// A subscriber who was told more than this replica has read: most likely by another replica, a reading ahead of this
/// one; perhaps out of a log that is no more.
struct SubscriberAhead {
    known_revision: Revision,
    /// Signs of life that did not reach it. The first one may follow a reading that began before the subscription.
    heartbeats_behind: u8,
}

impl SubscriberAhead {
    fn new(revision: Revision) -> Self {
        Self { known_revision: revision, heartbeats_behind: 0 }
    }

    /// Leaves out what the subscriber knows, until this replica has caught up, or turns out to read another log.
    fn filter_known(ahead: &mut Option<Self>, told: WatchEvent) -> Option<WatchEvent> {
        let Some(still) = ahead else { return Some(told) };
        match told {
            WatchEvent::Changed(changes) => {
                let new: Vec<_> =
                    changes.iter().filter(|change| change.revision > still.known_revision).cloned().collect();
                (!new.is_empty()).then(|| {
                    *ahead = None;
                    WatchEvent::Changed(new.into())
                })
            }
            WatchEvent::Heartbeat { revision, .. } if revision < still.known_revision => {
                still.heartbeats_behind += 1;
                (still.heartbeats_behind > 1).then(|| {
                    *ahead = None;
                    WatchEvent::StartOver {
                        revision,
                        reason: "the change log ends before what was told already",
                    }
                })
            }
            WatchEvent::Heartbeat { .. } | WatchEvent::StartOver { .. } => {
                *ahead = None;
                Some(told)
            }
        }
    }
}

#[cfg(test)]
mod tests;
