use super::*;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A primary and a read replica, both seen by one process.
struct Pair {
    route: ReadRoute,
    indexes: [ReplicationIndex; 2],
}

impl Pair {
    fn new() -> Self {
        let indexes = [ReplicationIndex::default(), ReplicationIndex::default()];
        Self { route: ReadRoute::new(indexes.clone()), indexes }
    }

    /// A pair whose read replica shows position 10 and heartbeat 1 at time 0, and is used.
    fn following() -> Self {
        let pair = Self::new();
        pair.primary(10, 1, 0);
        pair.read_replica(10, 1, 0);
        assert_eq!(pair.route.source(millis(0)), ReadSource::ReadReplica);
        pair
    }

    /// Heartbeats are written every 700 ms, the third one at 1.1 s.
    fn primary(&self, position: i64, beat: i64, at: u64) {
        let beat_at = u64::try_from(beat).unwrap() * 700;
        self.route.record_primary(PrimaryState {
            log: LogState { position, beat },
            asked_at: millis(at),
            beat_at: millis(beat_at.saturating_sub(1_000)),
            answered_at: millis(at),
        });
    }

    fn read_replica(&self, position: i64, beat: i64, at: u64) {
        self.route.record_read_replica(LogState { position, beat }, millis(at), millis(at));
    }

    /// The read replica shows the state that the primary has.
    fn both(&self, position: i64, beat: i64, at: u64) {
        self.primary(position, beat, at);
        self.read_replica(position, beat, at);
    }

    fn status(&self, at: u64) -> (ReadSource, Option<UnusedReason>) {
        let status = self.route.status(millis(at));
        assert_eq!(status.source, self.route.source(millis(at)));
        (status.source, status.unused)
    }
}

const USED: (ReadSource, Option<UnusedReason>) = (ReadSource::ReadReplica, None);

fn left(reason: UnusedReason) -> (ReadSource, Option<UnusedReason>) {
    (ReadSource::Primary, Some(reason))
}

#[test]
fn read_replica_is_not_used_without_comparisons_and_is_used_again_when_it_shows_the_state_after_them() {
    let pair = Pair::following();
    assert_eq!(pair.status(3_000), USED);
    assert_eq!(pair.status(3_001), left(UnusedReason::Unproven));
    pair.primary(11, 4, 60_000);
    assert_eq!(pair.status(60_000), left(UnusedReason::Unproven));
    pair.read_replica(10, 1, 60_010);
    assert_eq!(pair.status(60_010), left(UnusedReason::Unproven), "it may have stopped meanwhile");
    assert!(pair.route.is_probe_due(millis(60_011)));
    pair.read_replica(11, 4, 60_300);
    assert_eq!(pair.status(60_300), USED);
}

#[test]
fn primary_answers_until_the_read_replica_has_shown_its_state() {
    let pair = Pair::new();
    pair.read_replica(10, 1, 0);
    assert_eq!(pair.status(0), left(UnusedReason::Unproven), "nothing to compare it with");
    pair.primary(10, 2, 10);
    assert_eq!(pair.status(600), left(UnusedReason::Unproven));
    pair.read_replica(10, 2, 600);
    assert_eq!(pair.status(600), USED);
}

#[test]
fn read_replica_without_a_newer_state_is_left_one_second_after_the_primary_showed_it() {
    for (position, beat) in [(11, 1), (10, 2)] {
        let pair = Pair::following();
        pair.primary(position, beat, 700);
        pair.read_replica(10, 1, 1_600);
        assert_eq!(pair.status(1_699), USED, "{position} {beat}");
        assert_eq!(pair.status(1_700), left(UnusedReason::Behind), "{position} {beat}");
        assert_eq!(pair.route.status(millis(1_700)).lag, millis(1_000));
        assert_eq!(pair.route.status(millis(1_700)).lag_positions, u64::from(position == 11));
    }
}

#[test]
fn lag_counts_from_the_oldest_state_that_is_missing() {
    let pair = Pair::following();
    for second in 1..=100 {
        pair.primary(10 + second, 1, u64::try_from(second).unwrap() * 700);
    }
    pair.read_replica(11, 1, 70_000);
    assert_eq!(pair.route.status(millis(70_000)).lag, millis(70_000 - 1_400));
    assert_eq!(pair.route.status(millis(70_000)).lag_positions, 99);
    pair.read_replica(110, 1, 70_001);
    assert_eq!(pair.route.status(millis(70_001)).lag, Duration::ZERO);
}

#[test]
fn read_replica_that_was_left_is_used_after_three_seconds_in_which_every_read_showed_a_small_lag() {
    let pair = Pair::following();
    pair.primary(11, 1, 700);
    pair.route.evaluate(millis(1_800));
    assert_eq!(pair.status(1_800), left(UnusedReason::Behind));
    pair.both(11, 1, 2_000);
    assert!(pair.route.is_probe_due(millis(2_001)), "each read decides");
    // Behind again, by more than a recovering read replica may be.
    pair.primary(12, 1, 3_600);
    pair.read_replica(11, 1, 4_100);
    for at in [4_200, 5_000, 6_000, 7_100] {
        pair.both(13, 1, at);
        assert_eq!(pair.status(at), left(UnusedReason::Behind), "{at}");
    }
    pair.both(13, 1, 7_200);
    assert_eq!(pair.status(7_200), USED, "since 4.2 s");
}

#[test]
fn recovery_takes_twice_as_long_each_time_that_it_did_not_last() {
    let pair = Pair::following();
    let mut now = 0;
    for (stays_used, seconds) in [(0, 3), (1, 6), (1, 12), (1, 24), (1, 48), (1, 60), (1, 60), (61, 3)] {
        for _ in 0..stays_used {
            now += 1_000;
            pair.both(10, 1, now);
        }
        for _ in 0..2 {
            pair.route.record_read_replica_failure(millis(now), millis(now));
        }
        for _ in 0..seconds {
            pair.both(10, 1, now);
            assert_eq!(pair.status(now), left(UnusedReason::Failing), "{seconds}");
            now += 1_000;
        }
        pair.both(10, 1, now);
        assert_eq!(pair.status(now), USED, "{seconds}");
    }
}

#[test]
fn read_replica_is_left_after_two_failures_in_a_row() {
    let pair = Pair::following();
    let fail = |at| pair.route.record_read_replica_failure(millis(at), millis(at));
    fail(100);
    pair.read_replica(10, 1, 200);
    fail(300);
    assert_eq!(pair.status(300), USED, "one failure in a row");
    fail(301);
    assert_eq!(pair.status(301), left(UnusedReason::Failing));
    for at in [1_000, 2_000, 3_999] {
        pair.both(10, 1, at);
        assert_eq!(pair.status(at), left(UnusedReason::Failing), "{at}");
    }
    pair.both(10, 1, 4_000);
    assert_eq!(pair.status(4_000), USED);
}

#[test]
fn lagging_read_replica_answers_while_the_primary_fails_and_a_broken_or_foreign_one_does_not() {
    let behind = || {
        let pair = Pair::following();
        pair.primary(11, 1, 700);
        pair.route.evaluate(millis(1_800));
        pair
    };
    let fail = |pair: &Pair| pair.route.record_primary_failure(millis(2_000));
    let pair = behind();
    fail(&pair);
    assert_eq!(pair.status(2_000).0, ReadSource::Primary, "one failure may be an accident");
    fail(&pair);
    assert_eq!(pair.status(2_000), (ReadSource::ReadReplica, Some(UnusedReason::Behind)));
    pair.primary(11, 1, 3_000);
    assert_eq!(pair.status(3_000).0, ReadSource::Primary, "the primary is back");

    let pair = behind();
    pair.route.record_other_database(millis(1_900), millis(1_900));
    fail(&pair);
    fail(&pair);
    assert_eq!(pair.status(2_000), left(UnusedReason::OtherDatabase));
    let pair = behind();
    for _ in 0..2 {
        fail(&pair);
        pair.route.record_read_replica_failure(millis(2_000), millis(2_000));
    }
    assert_eq!(pair.status(2_000), left(UnusedReason::Failing));
}

/// The heartbeat proves what was written before it, and not what was written after it and before the read.
#[test]
fn primary_answers_lists_until_the_read_replica_shows_a_heartbeat_after_the_own_write() {
    let pair = Pair::following();
    let of = |lane, at| pair.route.source_for(lane, millis(at));
    pair.route.record_write(Lane::Admin, millis(500));
    assert_eq!(of(Lane::Admin, 500), ReadSource::Primary);
    assert_eq!(of(Lane::Sessions, 500), ReadSource::Primary, "tenants and keys decide about sessions");
    assert_eq!(of(Lane::Usage, 500), ReadSource::ReadReplica, "usage was not written");
    assert_eq!(of(Lane::Known, 500), ReadSource::ReadReplica, "a look-up checks its position");
    pair.primary(11, 2, 700);
    pair.read_replica(11, 2, 750);
    assert_eq!(of(Lane::Admin, 750), ReadSource::Primary, "the heartbeat was written before the change");
    pair.primary(11, 3, 1_400);
    pair.read_replica(11, 3, 1_450);
    assert_eq!(of(Lane::Admin, 1_450), ReadSource::ReadReplica);
    pair.route.record_write(Lane::Limits, millis(1_500));
    pair.route.record_write(Lane::Maintenance, millis(1_500));
    assert_eq!(
        of(Lane::Admin, 1_500),
        ReadSource::ReadReplica,
        "leases and housekeeping are no changes of a user"
    );
}

#[test]
fn replication_index_shows_an_own_write_before_the_next_heartbeat_does() {
    let pair = Pair::following();
    pair.route.record_write(Lane::Usage, millis(500));
    pair.indexes[ReadSource::Primary as usize].store(40, Ordering::Relaxed);
    pair.primary(10, 1, 700);
    pair.indexes[ReadSource::ReadReplica as usize].store(39, Ordering::Relaxed);
    pair.read_replica(10, 1, 750);
    assert_eq!(pair.route.source_for(Lane::Usage, millis(750)), ReadSource::Primary);
    pair.indexes[ReadSource::Primary as usize].store(40, Ordering::Relaxed);
    pair.primary(10, 1, 1_400);
    pair.indexes[ReadSource::ReadReplica as usize].store(40, Ordering::Relaxed);
    pair.read_replica(10, 1, 1_450);
    assert_eq!(
        pair.route.source_for(Lane::Usage, millis(1_450)),
        ReadSource::Primary,
        "no new state to compare"
    );
    pair.primary(10, 1, 2_100);
    assert_eq!(pair.route.source_for(Lane::Usage, millis(2_100)), ReadSource::ReadReplica);
}

#[test]
fn poll_of_the_read_replica_counts_only_shortly_after_a_read_of_the_primary() {
    let pair = Pair::following();
    assert!(pair.route.is_confirmed(millis(1_500)) && !pair.route.is_confirmed(millis(1_501)));
    assert!(!pair.route.is_check_due(millis(699)) && pair.route.is_check_due(millis(700)));
    pair.route.record_primary_failure(millis(700));
    assert!(!pair.route.is_check_due(millis(1_399)), "a primary that hangs delays every third poll at most");
    assert_eq!(pair.route.confirmed_at(), Some(millis(0)));
    pair.route.reset();
    assert_eq!(pair.route.confirmed_at(), None);
    assert_eq!(pair.status(700), left(UnusedReason::Unproven));
}
