use std::time::Duration;

use super::*;
use crate::{
    domain::{
        clock::{Moment, UnixMillis},
        condition::Condition,
        identity::DistrustReason,
        store::FailureKind,
    },
    ops::status::{
        FeedStatus, FileStatus, GraceCoverage, GraceStatus, LifecyclePhase, TimeLeft, WriteStatus,
    },
};

/// A time after 2026-11-21T13:03:00Z.
fn at(seconds: u64) -> Moment {
    let monotonic = Duration::from_secs(seconds);
    Moment { wall: UnixMillis(1_795_266_180_000).plus(monotonic), monotonic }
}

const NOW: u64 = 1_000;
/// 5 min 12 s before now.
const BEGINNING: u64 = NOW - 312;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn healthy() -> ServiceStatus {
    let works = Some(Condition { failure: None, since: at(1), last_call_at: at(NOW) });
    ServiceStatus {
        now: at(NOW),
        phase: LifecyclePhase::Ready,
        phase_since: at(0),
        reads: works,
        distrust: None,
        read_replica_stalled_for: None,
        read_route: None,
        clock_offset: Some(12),
        scheduler_lag: Duration::from_millis(4),
        writes: WriteStatus { condition: works, waiting: 0, under_way_for: None },
        open_circuits: [false; 6],
        feed: FeedStatus::Live(Duration::from_millis(100)),
        oldest_answer: Some(seconds(4)),
        grace: GraceStatus {
            in_force: seconds(14_400),
            configured: seconds(14_400),
            set_until: None,
            coverage: None,
        },
        files: FileStatus::default(),
        expiries: Vec::new(),
        denied_entries: 0,
        limits: works,
        pepper_missing: None,
    }
}

fn failing(kind: FailureKind) -> Option<Condition> {
    Some(Condition { failure: Some(kind), since: at(BEGINNING), last_call_at: at(NOW) })
}

fn coverage(oldest: TimeLeft, median: TimeLeft, keys_beyond: u64) -> Option<GraceCoverage> {
    Some(GraceCoverage { oldest_key: Some(oldest), median_key: Some(median), keys_beyond })
}

/// An outage of 5 min 12 s.
fn outage() -> ServiceStatus {
    let mut status = healthy();
    status.reads = failing(FailureKind::TimedOut);
    status.feed = FeedStatus::SilentSince(at(BEGINNING));
    status.open_circuits = [true, true, false, false, false, false];
    status.oldest_answer = Some(seconds(312));
    status.grace.coverage =
        coverage(TimeLeft::Remaining(seconds(13_990)), TimeLeft::Remaining(seconds(14_000)), 0);
    status
}

const ALL: Answered = Answered { answered: 9_998, all: 10_000 };

/// The sentences of a status, a line each.
fn sentences(status: &ServiceStatus) -> String {
    judged(status, ALL)
}

fn judged(status: &ServiceStatus, answered: Answered) -> String {
    let verdict = Verdict::of(status, answered, None);
    let lines = std::iter::once(&verdict.main).chain(&verdict.others).map(ToString::to_string);
    lines.collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn assert_changed(change: impl FnOnce(&mut ServiceStatus), expected: &str) {
    let mut status = healthy();
    change(&mut status);
    assert_eq!(sentences(&status), expected);
}

#[test]
fn outage_is_told_in_one_breath() {
    let expected = "Database unreachable for 5 min 12 s (timed out). 99.98 % of requests are answered, from copies up to 5 min 12 s \
                    old. Keys not seen before are refused with UNAVAILABLE. Copies expire at 17:12 UTC.";
    assert_eq!(sentences(&outage()), expected);
    let verdict = Verdict::of(&outage(), ALL, None);
    assert_eq!((&*verdict.summary, verdict.is_bad), ("Database unreachable.", true));
    let shown = verdict.render().into_string();
    assert!(shown.contains("<time datetime=\"2026-11-21T17:12:50Z\">17:12 UTC</time>"), "{shown}");
}

#[test]
fn health_is_told_with_a_line_of_facts() {
    assert_eq!(sentences(&healthy()), "Everything works.\nReady since 2026-11-21 13:03 UTC.");
    let verdict = Verdict::of(&healthy(), ALL, None);
    assert_eq!((&*verdict.summary, verdict.is_bad), ("Everything works.", false));
}

#[test]
fn cause_of_failing_reads_comes_with_its_remedy() {
    let mut status = outage();
    status.reads = failing(FailureKind::Denied);
    status.grace.coverage = None;
    let expected = "Reads of the database have failed for 5 min 12 s (denied). The token is refused: replace it in \
                    TENANT_AUTH_DATABASE_TOKEN_FILE. 99.98 % of requests are answered, from copies up to 5 min 12 s old. Keys not \
                    seen before are refused with UNAVAILABLE.";
    assert_eq!(sentences(&status), expected);
    status.reads = failing(FailureKind::Unreachable);
    assert!(sentences(&status).starts_with("Database unreachable for 5 min 12 s (no connection). "));
}

#[test]
fn share_of_answered_requests_is_never_rounded_to_all_or_none() {
    let share = |answered, all| {
        let text = judged(&outage(), Answered { answered, all });
        text.split(". ").nth(1).unwrap().split(" of requests").next().unwrap().to_owned()
    };
    assert_eq!(share(10, 10), "100 %");
    assert_eq!(share(999_999, 1_000_000), "99.99 %");
    assert_eq!(share(1, 1_000_000), "0.01 %");
    assert_eq!(share(0, 10), "No request is answered");
    assert_eq!(share(0, 0), "No request came in the last minute");
}

#[test]
fn end_of_the_grace_is_told_before_and_after() {
    use TimeLeft::{Elapsed, Remaining};
    let end = |coverage| {
        let mut status = outage();
        status.grace.coverage = coverage;
        sentences(&status).split_once("UNAVAILABLE. ").unwrap().1.to_owned()
    };
    let (soon, late) = (Remaining(seconds(600)), Remaining(seconds(3_600)));
    assert_eq!(end(coverage(soon, late, 0)), "Copies expire at 13:29 UTC, half of them by 14:19 UTC.");
    let ended = Elapsed(seconds(60));
    assert_eq!(
        end(coverage(ended, soon, 3)),
        "Copies expire; half of them by 13:29 UTC; 3 are refused already."
    );
    assert_eq!(
        end(coverage(ended, ended, 30)),
        "Half of the copies have expired since 13:18 UTC; 30 are refused already."
    );
    let days = Remaining(seconds(6 * 86_400));
    assert_eq!(end(coverage(days, days, 0)), "Copies expire at 2026-11-27 13:19 UTC.");
    let none = GraceCoverage { oldest_key: None, median_key: None, keys_beyond: 0 };
    assert_eq!(end(Some(none)), "No key that was used recently has a copy here.");
}

#[test]
fn states_of_the_process_come_first() {
    assert_changed(
        |status| {
            (status.phase, status.phase_since) = (LifecyclePhase::Waiting, at(NOW - 12));
            status.reads = failing(FailureKind::TimedOut);
            status.feed = FeedStatus::NotYetLive;
        },
        "This replica has been waiting for its database for 12 s (timed out). It is not ready: load balancers send it nothing, and it \
         has no copies to answer from.",
    );
    assert_changed(
        |status| {
            (status.phase, status.phase_since) = (LifecyclePhase::Unusable("schema_newer"), at(NOW - 12));
        },
        "This replica has been unable to use its database for 12 s (schema newer). The log says what to do. It answers no request.",
    );
    assert_changed(
        |status| (status.phase, status.phase_since) = (LifecyclePhase::Stopping, at(NOW - 12)),
        "This replica has been stopping for 12 s. It answers the requests that still reach it.",
    );
}

#[test]
fn database_that_is_not_trusted_is_told_apart_from_an_outage() {
    assert_changed(
        |status| status.distrust = Some((DistrustReason::RolledBack, at(BEGINNING))),
        "Database not trusted for 5 min 12 s: it lacks changes that it had before. Bring the known one back, or accept this one: \
         tenantctl database status says how. Changes are refused. 99.98 % of requests are answered, from copies up to 4 s old. \
         Keys not seen before are refused with UNAVAILABLE.",
    );
    assert_changed(
        |status| status.read_replica_stalled_for = Some(seconds(9)),
        "The read replica of the database has been stalled for 9 s: it shows no new changes. 99.98 % of requests are answered, from \
         copies up to 4 s old. Keys not seen before are refused with UNAVAILABLE.",
    );
}

#[test]
fn failing_writes_leave_validation_alone() {
    assert_changed(
        |status| {
            status.writes.condition = failing(FailureKind::DiskFull);
            status.open_circuits[5] = true;
        },
        "Writes to the database have failed for 5 min 12 s (disk full). The disk of the database is full: make room on it. Changes, \
         new sessions and usage are refused with UNAVAILABLE; keys are validated all the same.",
    );
    assert_changed(
        |status| status.writes.under_way_for = Some(seconds(7)),
        "A write to the database has been in flight for 7 s. Changes, new sessions and usage wait for it; keys are validated all the \
         same.",
    );
}

#[test]
fn failure_before_the_end_of_an_outage_is_no_problem_any_more() {
    let mut status = healthy();
    let failed = Condition { last_call_at: at(NOW - 20), ..failing(FailureKind::Unreachable).unwrap() };
    (status.writes.condition, status.limits) = (Some(failed), Some(failed));
    assert!(sentences(&status).starts_with("Writes to the database have failed for "), "reads never failed");
    status.reads = Some(Condition { failure: None, since: at(NOW - 10), last_call_at: at(NOW) });
    assert!(sentences(&status).starts_with("Everything works."), "nothing was written since");
}

#[test]
fn silent_feed_costs_time_and_no_correctness() {
    let text = |time| {
        format!(
            "The change log has not been read for {time}. Answers that are no longer fresh are looked up again first: they take \
             longer, and stay right."
        )
    };
    assert_changed(|status| status.feed = FeedStatus::SilentSince(at(NOW - 12)), &text("12 s"));
    assert_changed(|status| status.feed = FeedStatus::NotYetLive, &text("16 min 40 s"));
    let mut status = healthy();
    (status.feed, status.phase_since) = (FeedStatus::NotYetLive, at(NOW - 3));
    assert!(sentences(&status).starts_with("Everything works."), "it may take a moment after the start");
}

#[test]
fn faults_of_this_replica_are_told() {
    assert_changed(
        |status| status.clock_offset = Some(-7_000),
        "The clock of this replica is 7 s behind the database's. Keys and sessions expire at the wrong time here.",
    );
    assert_changed(
        |status| status.scheduler_lag = Duration::from_millis(350),
        "This replica gets too little CPU: a thread waited 350 ms for it in the last minute. Reads that time out say nothing about \
         the database.",
    );
    assert_changed(
        |status| (status.files.callers_refused, status.files.certificates_refused) = (true, true),
        "The new content of callers and certificates is refused. The previous content stays in effect; the log says why.",
    );
    assert_changed(
        |status| status.pepper_missing = Some("p2".to_owned()),
        "Pepper p2 is missing on this replica, and live keys are stored under it. Keys that are not found are refused with \
         UNAVAILABLE.",
    );
}

#[test]
fn limits_and_breakers_are_told() {
    assert_changed(
        |status| status.limits = failing(FailureKind::Blocked),
        "Leases of limits have not been exchanged for 5 min 12 s (blocked). What is held is spent; then on_outage of each limit \
         decides.",
    );
    assert_changed(
        |status| status.open_circuits = [false, true, true, false, false, false],
        "Calls of the database for sessions and usage are rejected at once, except for a periodic probe (breaker open).",
    );
    assert_changed(
        |status| status.open_circuits[0] = true,
        "Lookups in the database are rejected at once, except for a periodic probe (breaker open). 99.98 % of requests are answered, \
         from copies up to 4 s old. Keys not seen before are refused with UNAVAILABLE.",
    );
}

#[test]
fn open_breaker_of_lookups_is_no_problem_where_nobody_asks() {
    let mut status = healthy();
    status.open_circuits[0] = true;
    assert!(judged(&status, Answered::default()).starts_with("Everything works."));
}

#[test]
fn requests_without_an_answer_are_a_problem_of_their_own() {
    let text = judged(&healthy(), Answered { answered: 969, all: 1_000 });
    assert_eq!(
        text,
        "3.10 % of the requests of the last minute were not answered. The plot of requests says why."
    );
    assert!(judged(&healthy(), Answered { answered: 999, all: 1_000 }).starts_with("Everything works."));
}

#[test]
fn worst_problem_comes_first_and_the_summary_has_no_times() {
    let mut status = outage();
    status.writes.condition = failing(FailureKind::TimedOut);
    status.clock_offset = Some(6_000);
    let verdict = Verdict::of(&status, ALL, None);
    assert_eq!(
        verdict.summary, "Database unreachable. Writes to the database fail. The clock is wrong.",
        "it changes only when something happens"
    );
    assert_eq!(verdict.others.len(), 2);
    let later = ServiceStatus { now: at(NOW + 1), ..status };
    assert_eq!(Verdict::of(&later, ALL, None).summary, verdict.summary);
}
