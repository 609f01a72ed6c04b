//! Subscribers that reconnect, fall behind, are ahead, or stay connected.

use std::sync::Arc;

use futures::FutureExt as _;

use super::*;
use crate::domain::{
    clock::{ManualClock, UnixMillis},
    id::{KeyId, TenantId},
    watch::Subject,
};

struct HubSetup {
    clock: Arc<ManualClock>,
    hub: Hub,
}

fn change(revision: i64) -> Invalidation {
    Invalidation {
        revision: Revision(revision),
        subject: Subject::Key(KeyId::parse("key_1").unwrap()),
        tenant: TenantId::parse("ten_1").unwrap(),
    }
}

fn changed(revisions: &[i64]) -> WatchEvent {
    WatchEvent::Changed(revisions.iter().copied().map(change).collect())
}

impl HubSetup {
    /// A hub that has read a log up to 100, and then these revisions, one poll each.
    fn having_read(revisions: impl IntoIterator<Item = i64>) -> Self {
        let clock = ManualClock::at(UnixMillis(5));
        let hub = Hub::new(Arc::clone(&clock) as SharedClock, true);
        hub.publish_discontinuity(Revision(100), "started");
        let setup = Self { clock, hub };
        revisions.into_iter().for_each(|revision| setup.read(revision));
        setup
    }

    fn read(&self, revision: i64) {
        self.hub.publish_changes(vec![change(revision)], Revision(revision));
    }

    /// Reads all of these revisions in one poll.
    fn read_all(&self, revisions: std::ops::RangeInclusive<i64>) {
        let last = *revisions.end();
        self.hub.publish_changes(revisions.map(change).collect(), Revision(last));
    }

    fn beat(&self) {
        self.clock.advance(HEARTBEAT_INTERVAL);
        self.hub.publish_heartbeat();
    }

    async fn subscribe(&self, after: i64) -> impl FnMut() -> Option<Result<WatchEvent, WatchError>> {
        let after = (after > 0).then_some(Revision(after));
        let mut stream = Box::pin(self.hub.watch(after).await.unwrap());
        move || stream.next().now_or_never().flatten()
    }
}

fn revision_of(event: Option<Result<WatchEvent, WatchError>>) -> Option<i64> {
    match event?.unwrap() {
        WatchEvent::Heartbeat { revision, .. } => Some(revision.0),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn returning_subscriber_gets_missed_changes_then_live_ones() {
    let setup = HubSetup::having_read([101, 102, 103]);
    let mut next = setup.subscribe(101).await;
    setup.read(104);
    setup.beat();
    assert_eq!(next(), Some(Ok(changed(&[102, 103]))));
    assert_eq!(next(), Some(Ok(changed(&[104]))));
    assert_eq!(revision_of(next()), Some(104));
    assert_eq!(next(), None, "no further event");
    let mut from_now = setup.subscribe(0).await;
    assert_eq!(from_now(), None);
}

#[tokio::test]
async fn subscriber_away_too_long_starts_over() {
    let setup = HubSetup::having_read([101]);
    let mut before_the_first = setup.subscribe(99).await;
    assert!(matches!(before_the_first(), Some(Ok(WatchEvent::StartOver { revision: Revision(101), .. }))));
    let retained = i64::try_from(MAX_RETAINED_CHANGES).unwrap();
    let setup = HubSetup::having_read(101..=101 + retained);
    let mut just_too_long = setup.subscribe(100).await;
    assert!(matches!(just_too_long(), Some(Ok(WatchEvent::StartOver { .. }))));
    let mut just_in_time = setup.subscribe(101).await;
    let mut missed = 0;
    while missed < MAX_RETAINED_CHANGES {
        match just_in_time() {
            Some(Ok(WatchEvent::Changed(page))) => {
                assert!(page.len() <= CHANGES_PER_PAGE, "an event has at most one page of changes");
                missed += page.len();
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((missed, just_in_time()), (MAX_RETAINED_CHANGES, None));
    let unread = Hub::new(Arc::clone(&setup.clock) as SharedClock, true);
    let mut first = Box::pin(unread.watch(Some(Revision(5))).await.unwrap());
    assert!(matches!(first.next().now_or_never(), Some(Some(Ok(WatchEvent::StartOver { .. })))));
}

/// A slow subscriber cannot receive missed changes that are no longer retained.
#[tokio::test]
async fn subscriber_slower_than_retention_starts_over() {
    let retained = i64::try_from(MAX_RETAINED_CHANGES).unwrap();
    let setup = HubSetup::having_read(101..=101 + retained);
    let mut slow = setup.subscribe(101).await;
    assert!(matches!(slow(), Some(Ok(WatchEvent::Changed(_)))));
    // One event, so the channel does not overflow.
    setup.read_all(102 + retained..=102 + retained * 2);
    assert!(matches!(slow(), Some(Ok(WatchEvent::StartOver { .. }))));
    assert!(matches!(slow(), Some(Ok(WatchEvent::Changed(_)))), "live changes follow");
}

#[tokio::test]
async fn subscriber_ahead_waits_or_starts_over_in_another_log() {
    let setup = HubSetup::having_read([101]);
    let mut ahead = setup.subscribe(103).await;
    setup.read(102);
    setup.beat();
    assert_eq!(ahead(), None, "the subscriber knows 102; the first heartbeat may follow an older poll");
    setup.read(103);
    setup.read(104);
    assert_eq!(ahead(), Some(Ok(changed(&[104]))));

    let mut elsewhere = setup.subscribe(9_000).await;
    setup.beat();
    assert_eq!(elsewhere(), None);
    setup.beat();
    assert!(matches!(elsewhere(), Some(Ok(WatchEvent::StartOver { revision: Revision(104), .. }))));
    setup.read(105);
    assert_eq!(elsewhere(), Some(Ok(changed(&[105]))));
}

#[tokio::test]
async fn subscriber_that_does_not_read_is_dropped() {
    let setup = HubSetup::having_read([]);
    let mut slow = setup.subscribe(0).await;
    let ring = i64::try_from(RING_CAPACITY).unwrap();
    (101..=101 + ring).for_each(|revision| setup.read(revision));
    assert_eq!(slow(), Some(Err(WatchError::TooSlow(1))));
    assert_eq!(slow(), None, "the stream has ended");
}

#[tokio::test]
async fn heartbeats_come_once_a_second_until_shutdown() {
    let setup = HubSetup::having_read([]);
    let mut next = setup.subscribe(0).await;
    for _ in 0..40 {
        setup.clock.advance(Duration::from_millis(250));
        setup.hub.publish_heartbeat();
    }
    let beats = std::iter::from_fn(|| revision_of(next())).count();
    assert_eq!(beats, 10);
    setup.hub.close();
    assert_eq!(next(), Some(Err(WatchError::ShuttingDown)));
    assert_eq!(setup.hub.watch(None).await.err(), Some(WatchError::ShuttingDown));
    let unfollowed = Hub::new(Arc::clone(&setup.clock) as SharedClock, false);
    assert_eq!(unfollowed.watch(None).await.err(), Some(WatchError::FeedDisabled));
}
