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
fn the_first_database_is_believed_and_no_other_after_it() {
    let known = known();
    let (one, two) = (identity("one", 1), identity("two", 7));
    known.doubt(Doubt::Empty, None, Revision(0));
    assert_eq!(known.trust().doubt, None, "as long as none is known, none is doubted");
    assert!(known.check(&two).is_ok());
    known.believe(&one, Revision(10), None);
    assert_eq!(known.position(), Revision(10));
    let kind = |identity: &DatabaseIdentity| known.check(identity).map_err(|error| error.kind);
    assert_eq!(kind(&one), Ok(()));
    assert_eq!(kind(&two), Err(FailureKind::Untrusted));
    assert_eq!(
        kind(&identity("one", 2)),
        Err(FailureKind::Untrusted),
        "accepted, but not by this replica yet"
    );

    known.doubt(Doubt::RolledBack, Some(one.clone()), Revision(8));
    assert!(known.is_out_of_reach());
    assert_eq!(kind(&one), Err(FailureKind::Untrusted), "nothing is believed until the doubt is over");
    known.believe(&one, Revision(11), None);
    assert!(!known.is_out_of_reach());
    assert_eq!(kind(&one), Ok(()));
}

#[test]
fn a_copy_that_does_not_show_what_its_primary_had_stands_still() {
    let known = known();
    known.saw_heartbeat(7, seconds(0), seconds(100));
    assert!(!known.is_heartbeat_due(seconds(1), seconds(100)));
    assert!(known.is_heartbeat_due(seconds(1), seconds(101)));
    // Nobody gives a sign of life, and this replica cannot: nobody can tell.
    known.saw_heartbeat(7, seconds(20), seconds(120));
    assert_eq!(known.standstill(seconds(120)), None);

    known.primary_had_heartbeat(8, seconds(120));
    known.saw_heartbeat(7, seconds(22), seconds(122));
    assert_eq!(known.counts_from(seconds(122)).unwrap(), seconds(122), "it may be on its way");
    known.saw_heartbeat(7, seconds(23), seconds(123));
    assert!(known.is_out_of_reach());
    assert_eq!(known.standstill(seconds(124)), Some(seconds(24)));
    assert_eq!(known.counts_from(seconds(124)).unwrap(), seconds(100), "what it says is as old as that");
    known.primary_had_heartbeat(9, seconds(124));
    known.saw_heartbeat(8, seconds(1), seconds(125));
    assert!(!known.is_out_of_reach(), "what was waited for is there");
}

#[test]
fn a_copy_that_stood_still_before_the_process_began_says_nothing_that_counts() {
    let known = known();
    known.saw_heartbeat(7, seconds(600), seconds(1));
    known.primary_had_heartbeat(700, seconds(1));
    known.saw_heartbeat(7, seconds(603), seconds(4));
    assert_eq!(known.counts_from(seconds(4)).unwrap_err().kind, FailureKind::Lagging);
}

#[test]
fn a_copy_whose_primary_gives_no_answer_stands_still_and_an_outage_of_both_is_none() {
    let known = known();
    known.saw_heartbeat(7, seconds(0), seconds(100));
    known.primary_gave_no_answer(seconds(101));
    known.saw_heartbeat(7, seconds(3), seconds(103));
    assert!(!known.is_out_of_reach());
    known.saw_heartbeat(7, seconds(4), seconds(104));
    assert_eq!(known.standstill(seconds(104)), Some(seconds(4)));
    // It answers, and has what the copy has: its changes may be stuck, but the copy is up to date.
    known.primary_had_heartbeat(7, seconds(105));
    known.saw_heartbeat(7, seconds(5), seconds(105));
    assert!(!known.is_out_of_reach());

    // Neither answers for ten minutes; then both do.
    known.primary_gave_no_answer(seconds(500));
    known.saw_heartbeat(7, seconds(601), seconds(701));
    assert!(!known.is_out_of_reach());
}

/// The new database's heartbeat may have begun anew, or be the one of long ago.
#[test]
fn a_heartbeat_of_the_former_database_is_not_waited_for_in_an_accepted_one() {
    let known = known();
    known.believe(&identity("one", 1), Revision(10), None);
    known.saw_heartbeat(500, seconds(0), seconds(100));
    known.primary_had_heartbeat(501, seconds(101));
    known.believe(&identity("two", 2), Revision(3), None);
    known.saw_heartbeat(2, seconds(0), seconds(110));
    assert!(!known.is_out_of_reach());
}
