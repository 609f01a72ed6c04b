//! Publishes changes that the feed has read to subscribers.
//!
//! An event is sent once to one broadcast channel, however many subscribers there are; each reads at its own
//! pace. A subscriber that falls behind by more than the channel's capacity is dropped: there is no queue per
//! subscriber. A heartbeat is sent only after a successful read of the feed, so it confirms that all changes
//! up to its revision were published.

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

/// Capacity of the broadcast channel, in events. At four polls and one heartbeat a second, this is minutes.
const RING_CAPACITY: usize = 1_024;
/// Number of changes retained for subscribers that reconnect.
const MAX_RETAINED_CHANGES: usize = 10_000;
/// Maximum number of retained changes in one event for a subscriber that catches up. It bounds the memory for
/// a slow one.
const CHANGES_PER_PAGE: usize = 100;
/// Interval between heartbeats.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Publishes changes to subscribers. Cheap to clone; clones share all state.
#[derive(Clone, Debug)]
pub struct Hub(Arc<HubInner>);

#[derive(Debug)]
struct HubInner {
    clock: SharedClock,
    /// Whether the feed is enabled.
    is_feed_enabled: bool,
    history: Mutex<ChangeHistory>,
    dropped_subscribers: Counter,
}

#[derive(Debug)]
struct ChangeHistory {
    /// `None` once this replica is shutting down.
    ring: Option<broadcast::Sender<WatchEvent>>,
    changes: VecDeque<Invalidation>,
    /// The position up to which the log was read.
    position: Revision,
    /// The revision after which `changes` is complete; `None` before the first read.
    complete_after: Option<Revision>,
    last_heartbeat: Option<Duration>,
}

impl Hub {
    /// Creates a hub for a feed that is enabled or disabled.
    #[must_use]
    pub fn new(clock: SharedClock, is_feed_enabled: bool) -> Self {
        let history = ChangeHistory {
            ring: Some(broadcast::Sender::new(RING_CAPACITY)),
            changes: VecDeque::new(),
            position: Revision::default(),
            complete_after: None,
            last_heartbeat: None,
        };
        Self(Arc::new(HubInner {
            clock,
            is_feed_enabled,
            history: Mutex::new(history),
            dropped_subscribers: Counter::default(),
        }))
    }

    /// Publishes changes that continue the log.
    pub(super) fn publish_changes(&self, changes: Vec<Invalidation>, position: Revision) {
        let mut history = self.lock_history();
        history.position = position;
        history.changes.extend(changes.iter().cloned());
        while history.changes.len() > MAX_RETAINED_CHANGES {
            history.complete_after = history.changes.pop_front().map(|change| change.revision);
        }
        if !changes.is_empty() {
            history.publish(WatchEvent::Changed(changes.into()));
        }
    }

    /// Publishes that the log starts here, or does not continue from the previous position.
    pub(super) fn publish_discontinuity(&self, position: Revision, reason: &'static str) {
        let mut history = self.lock_history();
        history.changes.clear();
        history.position = position;
        history.complete_after = Some(position);
        history.publish(WatchEvent::StartOver { revision: position, reason });
    }

    /// Publishes a heartbeat after the log was read to its end, unless the last one is too recent.
    pub(super) fn publish_heartbeat(&self) {
        let now = self.0.clock.monotonic();
        let mut history = self.lock_history();
        if history.last_heartbeat.is_some_and(|last| now.saturating_sub(last) < HEARTBEAT_INTERVAL) {
            return;
        }
        history.last_heartbeat = Some(now);
        let revision = history.position;
        history.publish(WatchEvent::Heartbeat { revision, at: self.0.clock.now() });
    }

    /// Makes subscribers start over for a reason that is not in the log and so has no revision: their cached
    /// answers may be wrong. Only current subscribers receive the event.
    pub fn restart_subscribers(&self, reason: &'static str) {
        let history = self.lock_history();
        history.publish(WatchEvent::StartOver { revision: history.position, reason });
    }

    /// Ends all subscriptions, because this replica is shutting down.
    pub fn close(&self) {
        self.lock_history().ring = None;
    }

    /// Returns the number of subscribers.
    #[must_use]
    pub fn subscriber_count(&self) -> usize {
        self.lock_history().ring.as_ref().map_or(0, broadcast::Sender::receiver_count)
    }

    /// Returns the number of subscribers that were dropped because they fell too far behind.
    #[must_use]
    pub fn dropped_subscribers(&self) -> u64 {
        self.0.dropped_subscribers.get()
    }

    fn lock_history(&self) -> MutexGuard<'_, ChangeHistory> {
        // Every step of a change leaves the history usable, so a panic does not break it.
        self.0.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ChangeHistory {
    fn publish(&self, event: WatchEvent) {
        if let Some(ring) = &self.ring {
            // There may be no subscribers.
            let _ = ring.send(event);
        }
    }

    /// Returns the next event for a subscriber that has received everything up to `after`, from the changes
    /// up to `until`; `None` when there is none.
    fn next_missed(&self, after: Revision, until: Revision) -> Option<WatchEvent> {
        let start_over = |reason| Some(WatchEvent::StartOver { revision: self.position, reason });
        match self.complete_after {
            None => start_over("this replica has not read the change log yet"),
            Some(from) if after < from => {
                start_over("this replica no longer retains the changes since that revision")
            }
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
        // Both under one lock, so that no event is published between the two steps.
        let (until, ring, ahead) = {
            let history = self.lock_history();
            let ring = history.ring.as_ref().ok_or(WatchError::ShuttingDown)?.subscribe();
            let ahead = after.filter(|after| *after > history.position).map(SubscriberAhead::new);
            (history.position, ring, ahead)
        };
        // One page at a time, on demand.
        let hub = self.clone();
        let missed = stream::unfold(after, move |after| {
            let event = after.and_then(|after| hub.lock_history().next_missed(after, until));
            let next = match &event {
                Some(WatchEvent::Changed(page)) => page.last().map(|change| change.revision),
                _ => None,
            };
            ready(event.map(|event| (event, next)))
        });
        let hub = self.clone();
        let live = stream::unfold((Some(ring), ahead, hub), |(ring, mut ahead, hub)| async move {
            let mut ring = ring?;
            loop {
                let event = match ring.recv().await {
                    Ok(event) => event,
                    Err(RecvError::Lagged(behind)) => {
                        hub.0.dropped_subscribers.increment();
                        return Some((Err(WatchError::TooSlow(behind)), (None, None, hub)));
                    }
                    Err(RecvError::Closed) => {
                        return Some((Err(WatchError::ShuttingDown), (None, None, hub)));
                    }
                };
                if let Some(event) = SubscriberAhead::filter_known(&mut ahead, event) {
                    return Some((Ok(event), (Some(ring), ahead, hub)));
                }
            }
        });
        Ok(missed.map(Ok).chain(live))
    }
}

/// A subscriber that knows a revision which this replica has not read yet. Most likely it received it from
/// another replica that polled earlier; perhaps it comes from a log that no longer exists.
struct SubscriberAhead {
    known_revision: Revision,
    /// Heartbeats below the known revision. The first one may follow a poll that started before the
    /// subscription.
    heartbeats_behind: u8,
}

impl SubscriberAhead {
    fn new(revision: Revision) -> Self {
        Self { known_revision: revision, heartbeats_behind: 0 }
    }

    /// Filters events that the subscriber knows, until this replica has caught up or turns out to read a
    /// different log.
    fn filter_known(ahead: &mut Option<Self>, event: WatchEvent) -> Option<WatchEvent> {
        let Some(subscriber) = ahead else { return Some(event) };
        match event {
            WatchEvent::Changed(changes) => {
                let new: Vec<_> = changes
                    .iter()
                    .filter(|change| change.revision > subscriber.known_revision)
                    .cloned()
                    .collect();
                (!new.is_empty()).then(|| {
                    *ahead = None;
                    WatchEvent::Changed(new.into())
                })
            }
            WatchEvent::Heartbeat { revision, .. } if revision < subscriber.known_revision => {
                subscriber.heartbeats_behind += 1;
                (subscriber.heartbeats_behind > 1).then(|| {
                    *ahead = None;
                    WatchEvent::StartOver {
                        revision,
                        reason: "the change log ends before the last revision that the subscriber received",
                    }
                })
            }
            WatchEvent::Heartbeat { .. } | WatchEvent::StartOver { .. } => {
                *ahead = None;
                Some(event)
            }
        }
    }
}

#[cfg(test)]
mod tests;
