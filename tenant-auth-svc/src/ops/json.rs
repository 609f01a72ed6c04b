//! The status as JSON: the same content as the text, durations in milliseconds.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{
    expiry::CredentialExpiry,
    status::{FeedStatus, GraceStatus, LifecyclePhase, MAX_SCHEDULER_LAG, ServiceStatus, TimeLeft},
    text::format_rfc3339,
};
use crate::domain::{
    clock::Moment, condition::Condition, known_database::read_route::UnusedReason, store::Circuit,
};

/// Renders an object with one member for the process and one for each dependency. A value that does not apply is
/// `null`.
pub(super) fn render(status: &ServiceStatus) -> String {
    let reason = match status.phase {
        LifecyclePhase::Unusable(why) => Some(why),
        LifecyclePhase::Waiting | LifecyclePhase::Ready | LifecyclePhase::Stopping => None,
    };
    let (distrusted_since, _) = time_and_age(status, status.distrust.map(|(_, since)| since));
    let database = json!({
        "distrust_reason": status.distrust.map(|(reason, _)| reason.as_str()),
        "distrusted_since": distrusted_since,
        "read_replica_stalled_ms": status.read_replica_stalled_for.map(millis),
        "read_route": status.read_route.map(|route| json!({
            "source": route.source.as_str(),
            "read_replica_unusable": route.unused.map(UnusedReason::as_str),
            "lag_ms": millis(route.lag),
            "lag_changes": route.lag_positions,
            "primary_failing": route.is_primary_failing,
        })),
    });
    let mut writes = condition(status, status.writes.condition);
    writes["waiting"] = status.writes.waiting.into();
    writes["under_way_ms"] = status.writes.under_way_for.map(millis).into();
    let (since, for_ms) = time_and_age(status, Some(status.phase_since));
    let process =
        json!({ "state": status.phase.as_str(), "reason": reason, "since": since, "for_ms": for_ms });
    let open = Circuit::ALL.into_iter().zip(status.open_circuits).filter(|(_, open)| *open);
    let open: Vec<_> = open.map(|(circuit, _)| circuit.as_str()).collect();
    let breaker = if open.is_empty() { "closed" } else { "open" };
    let (feed, ago) = match status.feed {
        FeedStatus::Off => ("off", None),
        FeedStatus::NotYetLive => ("not_yet_live", None),
        FeedStatus::Live(ago) => ("live", Some(ago)),
        FeedStatus::SilentSince(at) => ("silent", Some(status.now.since(at))),
    };
    let (last_poll, ago_ms) = time_and_age(status, ago.map(|ago| status.now.before(ago)));
    let mut text = json!({
        "ready": status.phase.is_ready(),
        "now": format_rfc3339(status.now.wall),
        "process": process,
        "database": database,
        "reads": condition(status, status.reads),
        "writes": writes,
        "breaker": { "state": breaker, "open": open },
        "feed": { "state": feed, "last_poll": last_poll, "ago_ms": ago_ms },
        "cpu": { "late_ms": millis(status.scheduler_lag), "starved": status.scheduler_lag >= MAX_SCHEDULER_LAG },
        "clock": { "offset_ms": status.clock_offset },
        "files": {
            "callers_refused": status.files.callers_refused,
            "certificates_refused": status.files.certificates_refused,
            "deny_list_refused": status.files.deny_list_refused,
            "principal_keys_refused": status.files.signing_keys_refused,
            "database_token_refused": status.files.database_token_refused,
        },
        "expiry": { "certificates": expiries(status, false), "tokens": expiries(status, true) },
        "grace": grace(status.grace),
        "denied": { "entries": status.denied_entries },
        "limits": condition(status, status.limits),
        "peppers": { "missing": status.pepper_missing },
        "cache": { "oldest_answer_ms": status.oldest_answer.map(millis) },
    })
    .to_string();
    text.push('\n');
    text
}

/// The condition of reads, of writes, or of exchanges of leases.
fn condition(status: &ServiceStatus, condition: Option<Condition>) -> Value {
    let (state, failure) = match condition.map(|condition| condition.failure) {
        None => ("not_tried", None),
        Some(None) => ("works", None),
        Some(Some(kind)) => ("failing", Some(kind.as_str())),
    };
    let (since, for_ms) = time_and_age(status, condition.map(|condition| condition.since));
    let (_, last_tried_ms) = time_and_age(status, condition.map(|condition| condition.last_call_at));
    json!({ "state": state, "failure": failure, "since": since, "for_ms": for_ms, "last_tried_ms": last_tried_ms })
}

/// Times until an end; negative once it has passed.
fn grace(grace: GraceStatus) -> Value {
    let millis_left = |millis_left: TimeLeft| match millis_left {
        TimeLeft::Remaining(left) => Value::from(millis(left)),
        TimeLeft::Elapsed(ago) => Value::from(-i64::try_from(millis(ago)).unwrap_or(i64::MAX)),
    };
    let coverage = grace.coverage;
    json!({
        "in_force_ms": millis(grace.in_force),
        "configured_ms": millis(grace.configured),
        "set_until": grace.set_until.map(format_rfc3339),
        "oldest_key_ends_ms": coverage.and_then(|coverage| coverage.oldest_key).map(millis_left),
        "median_key_ends_ms": coverage.and_then(|coverage| coverage.median_key).map(millis_left),
        "keys_beyond": coverage.map(|coverage| coverage.keys_beyond),
    })
}

/// The expiries of certificates or of tokens, by name, and the time left: negative after the expiry.
fn expiries(status: &ServiceStatus, tokens: bool) -> Value {
    let entry = |expiry: &CredentialExpiry| {
        let value = json!({
            "not_before": expiry.not_before.map(format_rfc3339),
            "not_after": format_rfc3339(expiry.not_after),
            "left_ms": expiry.remaining_millis(status.now.wall),
        });
        (expiry.kind.as_str().to_owned(), value)
    };
    status
        .expiries
        .iter()
        .filter(|expiry| expiry.kind.is_token() == tokens)
        .map(entry)
        .collect::<Map<_, _>>()
        .into()
}

/// A time, and how long ago it was.
fn time_and_age(status: &ServiceStatus, at: Option<Moment>) -> (Value, Value) {
    match at {
        Some(at) => (format_rfc3339(at.wall).into(), millis(status.now.since(at)).into()),
        None => (Value::Null, Value::Null),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{
            clock::UnixMillis,
            identity::DistrustReason,
            known_database::read_route::{ReadSource, RouteStatus},
            store::FailureKind,
        },
        ops::{
            expiry::CredentialKind,
            status::{FileStatus, GraceCoverage, WriteStatus},
        },
    };

    fn at(seconds: u64) -> Moment {
        let monotonic = Duration::from_secs(seconds);
        Moment { wall: UnixMillis(1_795_245_600_000).plus(monotonic), monotonic }
    }

    fn read(status: &ServiceStatus) -> Value {
        serde_json::from_str(&render(status)).unwrap()
    }

    #[test]
    fn every_status_field_is_rendered_as_json() {
        let status = ServiceStatus {
            now: at(320),
            phase: LifecyclePhase::Stopping,
            phase_since: at(319),
            reads: Some(Condition {
                failure: Some(FailureKind::TimedOut),
                since: at(8),
                last_call_at: at(319),
            }),
            distrust: Some((DistrustReason::RolledBack, at(11))),
            read_replica_stalled_for: Some(Duration::from_secs(9)),
            read_route: Some(RouteStatus {
                source: ReadSource::Primary,
                unused: Some(UnusedReason::Behind),
                lag: Duration::from_secs(4),
                lag_positions: 2,
                is_primary_failing: false,
            }),
            clock_offset: Some(-3),
            scheduler_lag: Duration::from_millis(350),
            writes: WriteStatus {
                condition: Some(Condition { failure: None, since: at(9), last_call_at: at(316) }),
                waiting: 3,
                under_way_for: Some(Duration::from_millis(40)),
            },
            open_circuits: [true, false, false, false, false, true],
            feed: FeedStatus::SilentSince(at(7)),
            oldest_answer: Some(Duration::from_millis(313_900)),
            grace: GraceStatus {
                in_force: Duration::from_secs(60),
                configured: Duration::from_secs(30),
                set_until: Some(at(400).wall),
                coverage: Some(GraceCoverage {
                    oldest_key: Some(TimeLeft::Elapsed(Duration::from_secs(5))),
                    median_key: Some(TimeLeft::Remaining(Duration::from_secs(7))),
                    keys_beyond: 3,
                }),
            },
            files: FileStatus::default(),
            expiries: vec![CredentialExpiry {
                kind: CredentialKind::ClientCa,
                not_before: None,
                not_after: at(300).wall,
            }],
            denied_entries: 0,
            limits: Some(Condition {
                failure: Some(FailureKind::Blocked),
                since: at(310),
                last_call_at: at(318),
            }),
            pepper_missing: None,
        };
        let expected = json!({
            "ready": false,
            "now": "2026-11-21T07:25:20Z",
            "process": { "state": "stopping", "reason": null, "since": "2026-11-21T07:25:19Z", "for_ms": 1_000 },
            "database": {
                "distrust_reason": "rolled_back", "distrusted_since": "2026-11-21T07:20:11Z", "read_replica_stalled_ms": 9_000,
                "read_route": {"source": "primary", "read_replica_unusable": "behind", "lag_ms": 4_000, "lag_changes": 2, "primary_failing": false },
            },
            "reads": {
                "state": "failing", "failure": "timed_out", "since": "2026-11-21T07:20:08Z", "for_ms": 312_000,
                "last_tried_ms": 1_000,
            },
            "writes": {
                "state": "works", "failure": null, "since": "2026-11-21T07:20:09Z", "for_ms": 311_000,
                "last_tried_ms": 4_000,
                "waiting": 3, "under_way_ms": 40,
            },
            "breaker": { "state": "open", "open": ["lookups", "writes"] },
            "feed": { "state": "silent", "last_poll": "2026-11-21T07:20:07Z", "ago_ms": 313_000 },
            "clock": { "offset_ms": -3 },
            "cpu": { "late_ms": 350, "starved": true },
            "files": {
                "callers_refused": status.files.callers_refused,
                "certificates_refused": status.files.certificates_refused,
                "deny_list_refused": status.files.deny_list_refused,
                "principal_keys_refused": status.files.signing_keys_refused,
            "principal_keys_refused": status.files.signing_keys_refused,
                "database_token_refused": status.files.database_token_refused,
            },
            "expiry": {
                "certificates": {
                    "client_ca": { "not_before": null, "not_after": "2026-11-21T07:25:00Z", "left_ms": -20_000 },
                },
                "tokens": {},
            },
            "grace": {
                "in_force_ms": 60_000, "configured_ms": 30_000, "set_until": "2026-11-21T07:26:40Z",
                "oldest_key_ends_ms": -5_000, "median_key_ends_ms": 7_000, "keys_beyond": 3,
            },
            "denied": { "entries": 0 },
            "limits": {
                "state": "failing", "failure": "blocked", "since": "2026-11-21T07:25:10Z", "for_ms": 10_000,
                "last_tried_ms": 2_000,
            },
            "peppers": { "missing": null },
            "cache": { "oldest_answer_ms": 313_900 },
        });
        assert_eq!(read(&status), expected);
    }

    #[test]
    fn unknown_values_are_null() {
        let status = ServiceStatus {
            now: at(0),
            phase: LifecyclePhase::Unusable("schema_newer"),
            phase_since: at(0),
            reads: None,
            distrust: None,
            read_replica_stalled_for: None,
            read_route: None,
            clock_offset: None,
            scheduler_lag: Duration::from_millis(4),
            writes: WriteStatus::default(),
            open_circuits: [false; 6],
            feed: FeedStatus::Off,
            oldest_answer: None,
            grace: GraceStatus {
                in_force: Duration::ZERO,
                configured: Duration::ZERO,
                set_until: None,
                coverage: None,
            },
            files: FileStatus::default(),
            expiries: Vec::new(),
            denied_entries: 0,
            limits: None,
            pepper_missing: None,
        };
        let rendered = read(&status);
        assert_eq!(rendered["process"]["reason"], "schema_newer");
        let nothing = json!({ "distrust_reason": null, "distrusted_since": null, "read_replica_stalled_ms": null, "read_route": null });
        assert_eq!(rendered["database"], nothing);
        let mut not_tried = json!({
            "state": "not_tried", "failure": null, "since": null, "for_ms": null, "last_tried_ms": null,
        });
        assert_eq!(rendered["reads"], not_tried);
        assert_eq!(rendered["limits"], not_tried);
        not_tried["waiting"] = 0.into();
        not_tried["under_way_ms"] = Value::Null;
        assert_eq!(rendered["writes"], not_tried);
        assert_eq!(rendered["feed"], json!({ "state": "off", "last_poll": null, "ago_ms": null }));
        assert_eq!(rendered["cache"]["oldest_answer_ms"], Value::Null);
        assert_eq!(rendered["grace"]["median_key_ends_ms"], Value::Null);
        let live = ServiceStatus { feed: FeedStatus::Live(Duration::ZERO), ..status.clone() };
        assert_eq!(read(&live)["feed"]["state"], "live");
        assert_eq!(
            read(&ServiceStatus { feed: FeedStatus::NotYetLive, ..status })["feed"]["state"],
            "not_yet_live"
        );
    }
}
