//! Behavior near the end of the grace and beyond it, and the options of an operator.

use std::{sync::Arc, time::Duration};

use tenant_auth_proto::v1;
use tenant_auth_svc::domain::clock::ManualClock;
use tenant_auth_testkit::Fault;
use tonic::{Code, Status};

use crate::harness::{NOW, TestDatabase, TestService, http_request, outcome, scrape::Scrape, unknown_key};

const HOUR: Duration = Duration::from_secs(3_600);

struct OutageSetup {
    database: TestDatabase,
    clock: Arc<ManualClock>,
    service: TestService,
    keys: Vec<String>,
}

impl OutageSetup {
    /// Caches three keys: one half an hour before the outage starts, two at its start.
    async fn start() -> Self {
        let database = TestDatabase::test_server().await;
        let clock = ManualClock::at(NOW);
        let service = TestService::start_at(&database, &clock).await;
        let tenant = service.create_tenant("Acme").await;
        let mut keys = Vec::new();
        for number in 0..3 {
            let (key, _) = service.issue_key(&tenant, &[]).await;
            service.validate(&key).await.unwrap();
            keys.push(key);
            if number == 0 {
                clock.advance(HOUR / 2);
            }
        }
        let outage = Self { database, clock, service, keys };
        outage.stop_database().await;
        outage
    }

    async fn stop_database(&self) {
        self.database.server().faults().set(Fault::service_unavailable());
        assert_eq!(outcome(&self.service.validate(&unknown_key()).await), "Unavailable");
    }

    async fn outcomes(&self) -> Vec<String> {
        let mut outcomes = Vec::new();
        for key in &self.keys {
            outcomes.push(outcome(&self.service.validate(key).await));
        }
        outcomes
    }

    async fn status_line(&self) -> String {
        let ops = self.service.running.ops_address().unwrap();
        let reported = http_request(ops, "GET /readyz?verbose").await.unwrap().body;
        reported.lines().find(|line| line.starts_with("grace ")).unwrap().to_owned()
    }

    async fn seconds_left(&self, record: &str) -> f64 {
        Scrape::collect(&self.service)
            .await
            .value(&format!("tenant_auth_cache_grace_remaining_seconds{{record=\"{record}\"}}"))
    }
}

const VALID: &str = "VERDICT_VALID";

#[tokio::test]
async fn grace_end_is_reported_before_and_after() {
    let outage = OutageSetup::start().await;
    assert_eq!(
        outage.status_line().await,
        "grace     14400 s; ends for the median recently used key in 14400 s; ends for the oldest in 12600 s; keys beyond it: 0"
    );
    outage.clock.advance(HOUR * 7 / 2);
    assert_eq!(outage.outcomes().await, ["Unavailable", VALID, VALID]);
    assert_eq!((outage.seconds_left("oldest").await, outage.seconds_left("median").await), (0.0, 1_800.0));
    let reported = outage.status_line().await;
    assert!(reported.ends_with("in 1800 s; ended for the oldest 0 ms ago; keys beyond it: 1"), "{reported}");

    // The condition is reported for as long as the database is unreachable.
    outage.clock.advance(HOUR);
    assert_eq!(outage.outcomes().await, ["Unavailable"; 3]);
    assert_eq!(
        (outage.seconds_left("oldest").await, outage.seconds_left("median").await),
        (-3_600.0, -1_800.0)
    );
    Scrape::collect(&outage.service).await.assert_value("tenant_auth_cache_beyond_grace_records", 3.0);
    let ops = outage.service.running.ops_address().unwrap();
    let reported = http_request(ops, "GET /readyz?verbose&format=json").await.unwrap().body;
    let reported: serde_json::Value = serde_json::from_str(&reported).unwrap();
    assert_eq!(reported["grace"]["oldest_key_ends_ms"], -3_600_000);
    assert_eq!(reported["grace"]["keys_beyond"], 3);

    outage.database.server().faults().clear();
    assert_eq!(outage.outcomes().await, [VALID; 3]);
    assert_eq!(outage.status_line().await, "grace     14400 s");
    assert_eq!(
        outage.seconds_left("oldest").await,
        14_400.0,
        "while the database answers, the full grace remains"
    );
    Scrape::collect(&outage.service).await.assert_value("tenant_auth_cache_beyond_grace_records", 0.0);
}

fn proto_duration(time: Duration) -> Option<prost_types::Duration> {
    Some(time.try_into().unwrap())
}

async fn set_grace(
    service: &TestService,
    grace: Duration,
    expires_in: Duration,
) -> Result<v1::SetOutageGraceResponse, Status> {
    let reason = "the provider needs longer".to_owned();
    let request = v1::SetOutageGraceRequest {
        grace: proto_duration(grace),
        expires_in: proto_duration(expires_in),
        reason,
    };
    Ok(service.admin().set_outage_grace(request).await?.into_inner())
}

async fn reset_grace(service: &TestService) -> v1::ResetOutageGraceResponse {
    let request = v1::ResetOutageGraceRequest { reason: "over".to_owned() };
    service.admin().reset_outage_grace(request).await.unwrap().into_inner()
}

async fn audit_entries(service: &TestService) -> Vec<(String, String)> {
    let listed = service.admin().list_audit_events(v1::ListAuditEventsRequest::default()).await.unwrap();
    let events = listed.into_inner().events.into_iter();
    events.filter(|event| event.target == "outage_grace").map(|event| (event.action, event.detail)).collect()
}

#[tokio::test]
async fn operator_extends_grace_even_after_it_ended() {
    let outage = OutageSetup::start().await;
    let service = &outage.service;
    outage.clock.advance(HOUR * 5);
    assert_eq!(outage.outcomes().await, ["Unavailable"; 3]);
    // Cache operations in between do not change that.
    service.running.sweep_cache();

    let answer = set_grace(service, HOUR * 12, HOUR * 3).await.unwrap();
    assert!(!answer.audited, "the database is unreachable");
    let grace = answer.grace.unwrap();
    assert_eq!(grace.grace.unwrap().seconds, 12 * 3_600);
    assert_eq!(grace.configured.unwrap().seconds, 4 * 3_600);
    assert_eq!(grace.reason, "the provider needs longer");
    let expires_at = grace.expires_at.unwrap().seconds;
    assert_eq!(expires_at, NOW.0 / 1_000 + 3_600 / 2 + 8 * 3_600);
    assert_eq!(outage.outcomes().await, [VALID; 3], "the cache was retained for it");
    Scrape::collect(service).await.assert_value("tenant_auth_cache_grace_seconds", 43_200.0);
    let reported = outage.status_line().await;
    assert!(
        reported.starts_with("grace     43200 s until 20") && reported.contains("14400 s after that"),
        "{reported}"
    );

    // The extended grace ends by itself.
    outage.clock.advance(HOUR * 3);
    assert_eq!(outage.outcomes().await, ["Unavailable"; 3]);
    let now = service.admin().get_outage_grace(v1::GetOutageGraceRequest {}).await.unwrap().into_inner();
    let now = now.grace.unwrap();
    assert_eq!((now.grace.unwrap().seconds, now.expires_at, &*now.reason), (14_400, None, ""));

    // The audit log has exactly one entry for it once the database accepts writes.
    set_grace(service, HOUR * 24, HOUR).await.unwrap();
    outage.database.server().faults().clear();
    service.running.flush_pending_writes().await.unwrap();
    service.running.flush_pending_writes().await.unwrap();
    let reported = audit_entries(service).await;
    assert_eq!(reported.iter().map(|(action, _)| &**action).collect::<Vec<_>>(), ["grace.set", "grace.set"]);
    assert_eq!(reported[1].1, "43200 s instead of 14400 s, for 10800 s: the provider needs longer");
    assert!(reset_grace(service).await.audited, "audited at once while the database answers");
    assert_eq!(
        audit_entries(service).await[0],
        ("grace.reset".to_owned(), "reset to 14400 s: over".to_owned())
    );
}

#[tokio::test]
async fn operator_shortens_and_resets_grace() {
    let outage = OutageSetup::start().await;
    outage.clock.advance(HOUR);
    assert_eq!(outage.outcomes().await, [VALID; 3]);
    set_grace(&outage.service, Duration::ZERO, HOUR).await.unwrap();
    assert_eq!(outage.outcomes().await, ["Unavailable"; 3]);
    reset_grace(&outage.service).await;
    assert_eq!(outage.outcomes().await, [VALID; 3]);
}

#[tokio::test]
async fn grace_override_over_one_week_is_refused() {
    let service = TestService::start(&TestDatabase::embedded()).await;
    let (day, second) = (HOUR * 24, Duration::from_secs(1));
    for (grace, expires_in) in
        [(day * 7 + second, HOUR), (HOUR, day * 7 + second), (HOUR, Duration::ZERO), (HOUR, second / 2)]
    {
        let refused = set_grace(&service, grace, expires_in).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{grace:?} for {expires_in:?}");
    }
    let without = v1::SetOutageGraceRequest {
        grace: proto_duration(HOUR),
        expires_in: proto_duration(HOUR),
        reason: String::new(),
    };
    assert_eq!(service.admin().set_outage_grace(without).await.unwrap_err().code(), Code::InvalidArgument);
    let empty = v1::SetOutageGraceRequest::default();
    assert_eq!(service.admin().set_outage_grace(empty).await.unwrap_err().code(), Code::InvalidArgument);
    set_grace(&service, day * 7, day * 7).await.unwrap();
}
