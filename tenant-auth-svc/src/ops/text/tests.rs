use super::*;
use crate::{
    domain::{identity::DistrustReason, known_database::read_route::UnusedReason, store::FailureKind},
    ops::status::WriteStatus,
};

fn at(seconds: u64) -> Moment {
    // 2026-11-21T07:20:00Z
    Moment {
        wall: UnixMillis(1_795_245_600_000).plus(Duration::from_secs(seconds)),
        monotonic: Duration::from_secs(seconds),
    }
}

#[test]
fn outage_status_is_rendered_completely() {
    let status = ServiceStatus {
        now: at(320),
        phase: LifecyclePhase::Ready,
        phase_since: at(0),
        reads: Some(Condition { failure: Some(FailureKind::TimedOut), since: at(8), last_call_at: at(319) }),
        distrust: Some((DistrustReason::RolledBack, at(11))),
        read_replica_stalled_for: Some(Duration::from_secs(9)),
        read_route: None,
        clock_offset: Some(-7_000),
        scheduler_lag: Duration::from_millis(350),
        writes: WriteStatus {
            condition: Some(Condition {
                failure: Some(FailureKind::Blocked),
                since: at(9),
                last_call_at: at(316),
            }),
            waiting: 3,
            under_way_for: Some(Duration::from_secs(4)),
        },
        open_circuits: [true, false, false, false, false, true],
        feed: FeedStatus::SilentSince(at(7)),
        oldest_answer: Some(Duration::from_millis(313_900)),
        grace: GraceStatus {
            in_force: Duration::from_secs(28_800),
            configured: Duration::from_secs(14_400),
            set_until: Some(at(3_600).wall),
            coverage: Some(GraceCoverage {
                oldest_key: Some(TimeLeft::Elapsed(Duration::from_secs(5))),
                median_key: Some(TimeLeft::Remaining(Duration::from_secs(700))),
                keys_beyond: 3,
            }),
        },
        files: FileStatus::default(),
        expiries: Vec::new(),
        denied_entries: 0,
        limits: Some(Condition { failure: Some(FailureKind::Blocked), since: at(10), last_call_at: at(319) }),
        pepper_missing: None,
    };
    assert_eq!(
        render(&status),
        "\
process   ready since 2026-11-21T07:20:00Z, 320 s
database  NOT TRUSTED (rolled_back) since 2026-11-21T07:20:11Z, 309 s: see `tenantctl database status`; the read replica has \
been stalled for 9 s
reads     failing (timed_out) since 2026-11-21T07:20:08Z, 312 s; last tried 1 s ago
writes    failing (blocked) since 2026-11-21T07:20:09Z, 311 s; last tried 4 s ago: the database is over a quota of its plan, or \
suspended: ask its provider; one write has been in flight for 4 s; 3 queued
breaker   open for lookups, writes: such calls are rejected, except for a periodic probe
feed      silent since 2026-11-21T07:20:07Z, 313 s
cache     oldest answer in the last minute: 313 s
clock     7 s behind the database's: keys and sessions expire at the wrong time on this replica
cpu       maximum scheduler lag 350 ms in the last minute: this replica is starved of CPU, and reads that time out say nothing \
about the database
grace     28800 s until 2026-11-21T08:20:00Z, 14400 s after that; ends for the median recently used key in 700 s; ended for the \
oldest 5 s ago; keys beyond it: 3
files     in effect
expiry    no known expiry
denied    no entries in the deny file
limits    leases are NOT exchanged (blocked) since 2026-11-21T07:20:10Z, 310 s: what is held is spent, then on_outage of each \
limit decides
peppers   none is missing
"
    );
}

#[test]
fn unknown_values_are_rendered_as_unknown() {
    let status = ServiceStatus {
        now: at(0),
        phase: LifecyclePhase::Waiting,
        phase_since: at(0),
        reads: None,
        distrust: None,
        read_replica_stalled_for: None,
        read_route: None,
        clock_offset: None,
        scheduler_lag: Duration::from_millis(4),
        writes: WriteStatus::default(),
        open_circuits: [false; 6],
        feed: FeedStatus::NotYetLive,
        oldest_answer: None,
        grace: GraceStatus {
            in_force: Duration::from_secs(14_400),
            configured: Duration::from_secs(14_400),
            set_until: None,
            coverage: None,
        },
        files: FileStatus::default(),
        expiries: Vec::new(),
        denied_entries: 0,
        limits: None,
        pepper_missing: None,
    };
    assert_eq!(
        render(&status),
        "\
process   waiting for the database since 2026-11-21T07:20:00Z, 0 ms
database  not read yet
reads     not tried yet
writes    not tried yet
breaker   closed
feed      not live yet
cache     no answer in the last minute
clock     not compared with the database's yet
cpu       maximum scheduler lag 4 ms in the last minute
grace     14400 s
files     in effect
expiry    no known expiry
denied    no entries in the deny file
limits    no lease exchanged yet
peppers   none is missing
"
    );
    let healthy = ServiceStatus {
        phase: LifecyclePhase::Unusable("schema_newer"),
        reads: Some(Condition { failure: None, since: at(0), last_call_at: at(0) }),
        feed: FeedStatus::Live(Duration::from_millis(120)),
        clock_offset: Some(4_000),
        limits: Some(Condition { failure: None, since: at(0), last_call_at: at(0) }),
        scheduler_lag: Duration::from_millis(4),
        ..status
    };
    let rendered = render(&healthy);
    for line in [
        "process   unusable (schema_newer) since 2026-11-21T07:20:00Z, 0 ms; the log says what to do",
        "reads     works since 2026-11-21T07:20:00Z, 0 ms; last tried 0 ms ago",
        "database  trusted",
        "writes    not tried yet",
        "feed      live, last poll 120 ms ago",
        "clock     agrees with the database's",
        "limits    leases are exchanged since 2026-11-21T07:20:00Z, 0 ms",
    ] {
        assert!(rendered.lines().any(|found| found == line), "{line}: {rendered}");
    }
}

#[test]
fn route_of_reads_is_part_of_the_line_about_the_database() {
    let route = RouteStatus {
        source: ReadSource::ReadReplica,
        unused: None,
        lag: Duration::ZERO,
        lag_positions: 0,
        is_primary_failing: false,
    };
    assert_eq!(
        read_route(&route),
        "reads go to the read replica; the read replica is 0 ms and 0 changes behind"
    );
    let behind = RouteStatus {
        unused: Some(UnusedReason::Behind),
        lag: Duration::from_secs(7),
        lag_positions: 3,
        ..route
    };
    assert_eq!(
        read_route(&RouteStatus { source: ReadSource::Primary, ..behind }),
        "reads go to the primary, because the read replica is unusable (behind); the read replica is 7 s and 3 changes behind"
    );
    assert_eq!(
        read_route(&RouteStatus { is_primary_failing: true, ..behind }),
        "reads go to the read replica, which is unusable (behind), because the primary does not answer; the read replica \
         is 7 s and 3 changes behind"
    );
}
