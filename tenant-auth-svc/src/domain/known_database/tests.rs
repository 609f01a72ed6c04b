use std::sync::Arc;

use super::*;
use crate::domain::clock::{ManualClock, UnixMillis};

fn known() -> KnownDatabase {
    let clock: Arc<ManualClock> = ManualClock::at(UnixMillis(0));
    KnownDatabase::new(clock)
}

fn identity(id: &str, epoch: i64) -> DatabaseIdentity {
    DatabaseIdentity { id: id.into(), epoch, replaces: "".into() }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn first_database_is_trusted_and_no_other_after_it() {
    let known = known();
    let (one, two) = (identity("one", 1), identity("two", 7));
    known.distrust(DistrustReason::Empty, None, Revision(0));
    assert_eq!(known.trust().distrust, None, "without a known database nothing is distrusted");
    assert!(known.check(&two).is_ok());
    known.confirm(&one, Revision(10), None);
    assert_eq!(known.position(), Revision(10));
    let kind = |identity: &DatabaseIdentity| known.check(identity).map_err(|error| error.kind);
    assert_eq!(kind(&one), Ok(()));
    assert_eq!(kind(&two), Err(FailureKind::Untrusted));
    assert_eq!(
        kind(&identity("one", 2)),
        Err(FailureKind::Untrusted),
        "the acceptance is not confirmed by this replica yet"
    );

    known.distrust(DistrustReason::RolledBack, Some(one.clone()), Revision(8));
    assert!(known.is_unusable());
    assert_eq!(
        kind(&one),
        Err(FailureKind::Untrusted),
        "a distrusted database stays untrusted until it is confirmed"
    );
    known.confirm(&one, Revision(11), None);
    assert!(!known.is_unusable());
    assert_eq!(kind(&one), Ok(()));
}

#[test]
fn read_replica_missing_primary_heartbeat_is_stalled() {
    let known = known();
    known.record_read_replica_heartbeat(7, seconds(0), seconds(100));
    assert!(!known.is_heartbeat_due(seconds(1), seconds(100)));
    assert!(known.is_heartbeat_due(seconds(1), seconds(101)));
    // Neither another replica nor this one writes a heartbeat, so the state is unknown.
    known.record_read_replica_heartbeat(7, seconds(20), seconds(120));
    assert_eq!(known.stalled_for(seconds(120)), None);

    known.record_primary_heartbeat(8, seconds(120));
    known.record_read_replica_heartbeat(7, seconds(22), seconds(122));
    assert_eq!(
        known.effective_read_time(seconds(122)).unwrap(),
        seconds(122),
        "the heartbeat may still arrive"
    );
    known.record_read_replica_heartbeat(7, seconds(23), seconds(123));
    assert!(known.is_unusable());
    assert_eq!(known.stalled_for(seconds(124)), Some(seconds(24)));
    assert_eq!(
        known.effective_read_time(seconds(124)).unwrap(),
        seconds(100),
        "results count as of the last progress"
    );
    known.record_primary_heartbeat(9, seconds(124));
    known.record_read_replica_heartbeat(8, seconds(1), seconds(125));
    assert!(!known.is_unusable(), "the awaited heartbeat has arrived");
}

#[test]
fn read_replica_stalled_before_start_is_lagging() {
    let known = known();
    known.record_read_replica_heartbeat(7, seconds(600), seconds(1));
    known.record_primary_heartbeat(700, seconds(1));
    known.record_read_replica_heartbeat(7, seconds(603), seconds(4));
    assert_eq!(known.effective_read_time(seconds(4)).unwrap_err().kind, FailureKind::Lagging);
}

#[test]
fn read_replica_is_stalled_only_if_primary_alone_is_down() {
    let known = known();
    known.record_read_replica_heartbeat(7, seconds(0), seconds(100));
    known.record_primary_failure(seconds(101));
    known.record_primary_failure(seconds(102));
    known.record_read_replica_heartbeat(7, seconds(3), seconds(103));
    assert!(!known.is_unusable());
    known.record_read_replica_heartbeat(7, seconds(4), seconds(104));
    assert_eq!(known.stalled_for(seconds(104)), Some(seconds(4)));
    // The primary responds with the heartbeat that the replica shows: writes may be stuck, but the replica is
    // up to date.
    known.record_primary_heartbeat(7, seconds(105));
    known.record_read_replica_heartbeat(7, seconds(5), seconds(105));
    assert!(!known.is_unusable());

    // Failures, and then a pause of the process: they say nothing about the primary after the pause.
    known.record_primary_failure(seconds(106));
    known.record_read_replica_heartbeat(7, seconds(10), seconds(110));
    assert!(!known.is_unusable(), "one failure is not enough");
    known.record_primary_failure(seconds(111));
    known.record_read_replica_heartbeat(7, seconds(71), seconds(171));
    assert!(!known.is_unusable());

    // Neither responds for ten minutes; then both do.
    known.record_primary_failure(seconds(500));
    known.record_read_replica_heartbeat(7, seconds(601), seconds(701));
    assert!(!known.is_unusable());
}

/// The new database's heartbeat may have restarted, or may be an old one.
#[test]
fn accepted_database_does_not_await_a_former_heartbeat() {
    let known = known();
    known.confirm(&identity("one", 1), Revision(10), None);
    known.record_read_replica_heartbeat(500, seconds(0), seconds(100));
    known.record_primary_heartbeat(501, seconds(101));
    known.confirm(&identity("two", 2), Revision(3), None);
    known.record_read_replica_heartbeat(2, seconds(0), seconds(110));
    assert!(!known.is_unusable());
}
