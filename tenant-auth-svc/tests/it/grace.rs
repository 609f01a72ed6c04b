//! What happens near the end of the grace and beyond it, and what an operator can do about it.

use std::{sync::Arc, time::Duration};

use tenant_auth_proto::v1;
use tenant_auth_svc::domain::clock::ManualClock;
use tenant_auth_testkit::Fault;
use tonic::{Code, Status};

use crate::{
    harness::{Database, NOW, Service, http, outcome, strange_key},
    scrape::Scrape,
};

const HOUR: Duration = Duration::from_secs(3_600);

struct Outage {
    database: Database,
    clock: Arc<ManualClock>,
    service: Service,
    keys: Vec<String>,
}

impl Outage {
    /// Of three keys one was read half an hour before the database went away, and two when it did.
    async fn start() -> Self {
        let database = Database::test_server().await;
        let clock = ManualClock::at(NOW);
        let service = Service::start_at(&database, &clock).await;
        let tenant = service.tenant("Acme").await;
        let mut keys = Vec::new();
        for number in 0..3 {
            let (key, _) = service.key(&tenant, &[]).await;
            service.validate(&key).await.unwrap();
            keys.push(key);
            if number == 0 {
                clock.advance(HOUR / 2);
            }
        }
        let outage = Self { database, clock, service, keys };
        outage.goes_away().await;
        outage
    }

    async fn goes_away(&self) {
        self.database.server().faults().set(Fault::service_unavailable());
        assert_eq!(outcome(&self.service.validate(&strange_key()).await), "Unavailable");
    }

    async fn outcomes(&self) -> Vec<String> {
        let mut outcomes = Vec::new();
        for key in &self.keys {
            outcomes.push(outcome(&self.service.validate(key).await));
        }
        outcomes
    }

    async fn line(&self) -> String {
        let ops = self.service.running.ops_address().unwrap();
        let told = http(ops, "GET /readyz?verbose").await.unwrap().body;
        told.lines().find(|line| line.starts_with("grace ")).unwrap().to_owned()
    }

    async fn left(&self, of: &str) -> f64 {
        Scrape::of(&self.service)
            .await
            .number(&format!("tenant_auth_cache_grace_ends_seconds{{of=\"{of}\"}}"))
    }
}

const GOOD: &str = "VERDICT_VALID";

#[tokio::test]
async fn the_end_of_the_grace_is_told_before_and_after_it_comes() {
    let outage = Outage::start().await;
    assert_eq!(
        outage.line().await,
        "grace     14400 s; ends for the median key in use in 14400 s; ends for the oldest in 12600 s; keys beyond it: 0"
    );
    outage.clock.advance(HOUR * 7 / 2);
    assert_eq!(outage.outcomes().await, ["Unavailable", GOOD, GOOD]);
    assert_eq!((outage.left("oldest").await, outage.left("median").await), (0.0, 1_800.0));
    let told = outage.line().await;
    assert!(told.ends_with("in 1800 s; ended for the oldest 0 ms ago; keys beyond it: 1"), "{told}");

    // It goes on to be told for as long as the database is away.
    outage.clock.advance(HOUR);
    assert_eq!(outage.outcomes().await, ["Unavailable"; 3]);
    assert_eq!((outage.left("oldest").await, outage.left("median").await), (-3_600.0, -1_800.0));
    Scrape::of(&outage.service).await.is("tenant_auth_cache_beyond_grace_records", 3.0);
    let ops = outage.service.running.ops_address().unwrap();
    let told = http(ops, "GET /readyz?verbose&format=json").await.unwrap().body;
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["grace"]["oldest_key_ends_ms"], -3_600_000);
    assert_eq!(told["grace"]["keys_beyond"], 3);

    outage.database.server().faults().clear();
    assert_eq!(outage.outcomes().await, [GOOD; 3]);
    assert_eq!(outage.line().await, "grace     14400 s");
    assert_eq!(outage.left("oldest").await, 14_400.0, "while the database answers, the whole of it is left");
    Scrape::of(&outage.service).await.is("tenant_auth_cache_beyond_grace_records", 0.0);
}

fn span(time: Duration) -> Option<prost_types::Duration> {
    Some(time.try_into().unwrap())
}

async fn set(
    service: &Service,
    grace: Duration,
    expires_in: Duration,
) -> Result<v1::SetOutageGraceResponse, Status> {
    let reason = "the provider needs longer".to_owned();
    let request = v1::SetOutageGraceRequest { grace: span(grace), expires_in: span(expires_in), reason };
    Ok(service.admin().set_outage_grace(request).await?.into_inner())
}

async fn reset(service: &Service) -> v1::ResetOutageGraceResponse {
    let request = v1::ResetOutageGraceRequest { reason: "over".to_owned() };
    service.admin().reset_outage_grace(request).await.unwrap().into_inner()
}

async fn audited(service: &Service) -> Vec<(String, String)> {
    let listed = service.admin().list_audit_events(v1::ListAuditEventsRequest::default()).await.unwrap();
    let events = listed.into_inner().events.into_iter();
    events.filter(|event| event.target == "outage_grace").map(|event| (event.action, event.detail)).collect()
}

#[tokio::test]
async fn an_operator_makes_the_grace_of_a_running_replica_longer_even_after_its_end() {
    let outage = Outage::start().await;
    let service = &outage.service;
    outage.clock.advance(HOUR * 5);
    assert_eq!(outage.outcomes().await, ["Unavailable"; 3]);
    // Whatever is done to memory in between.
    service.running.sweep_memory();

    let answer = set(service, HOUR * 12, HOUR * 3).await.unwrap();
    assert!(!answer.audited, "the database is away");
    let grace = answer.grace.unwrap();
    assert_eq!(grace.grace.unwrap().seconds, 12 * 3_600);
    assert_eq!(grace.configured.unwrap().seconds, 4 * 3_600);
    assert_eq!(grace.reason, "the provider needs longer");
    let expires_at = grace.expires_at.unwrap().seconds;
    assert_eq!(expires_at, NOW.0 / 1_000 + 3_600 / 2 + 8 * 3_600);
    assert_eq!(outage.outcomes().await, [GOOD; 3], "memory was kept for it");
    Scrape::of(service).await.is("tenant_auth_cache_grace_seconds", 43_200.0);
    let told = outage.line().await;
    assert!(told.starts_with("grace     43200 s until 20") && told.contains("14400 s after that"), "{told}");

    // Its own end comes by itself.
    outage.clock.advance(HOUR * 3);
    assert_eq!(outage.outcomes().await, ["Unavailable"; 3]);
    let now = service.admin().get_outage_grace(v1::GetOutageGraceRequest {}).await.unwrap().into_inner();
    let now = now.grace.unwrap();
    assert_eq!((now.grace.unwrap().seconds, now.expires_at, &*now.reason), (14_400, None, ""));

    // The audit log has it once the database takes it, once.
    set(service, HOUR * 24, HOUR).await.unwrap();
    outage.database.server().faults().clear();
    service.running.write_uses().await.unwrap();
    service.running.write_uses().await.unwrap();
    let told = audited(service).await;
    assert_eq!(told.iter().map(|(action, _)| &**action).collect::<Vec<_>>(), ["grace.set", "grace.set"]);
    assert_eq!(told[1].1, "43200 s instead of 14400 s, for 10800 s: the provider needs longer");
    assert!(reset(service).await.audited, "at once, while the database answers");
    assert_eq!(audited(service).await[0], ("grace.reset".to_owned(), "14400 s again: over".to_owned()));
}

#[tokio::test]
async fn an_operator_makes_the_grace_shorter_and_takes_that_back() {
    let outage = Outage::start().await;
    outage.clock.advance(HOUR);
    assert_eq!(outage.outcomes().await, [GOOD; 3]);
    set(&outage.service, Duration::ZERO, HOUR).await.unwrap();
    assert_eq!(outage.outcomes().await, ["Unavailable"; 3]);
    reset(&outage.service).await;
    assert_eq!(outage.outcomes().await, [GOOD; 3]);
}

#[tokio::test]
async fn a_grace_beyond_a_week_or_for_longer_than_one_is_refused() {
    let service = Service::start(&Database::embedded()).await;
    let (day, second) = (HOUR * 24, Duration::from_secs(1));
    for (grace, expires_in) in
        [(day * 7 + second, HOUR), (HOUR, day * 7 + second), (HOUR, Duration::ZERO), (HOUR, second / 2)]
    {
        let refused = set(&service, grace, expires_in).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{grace:?} for {expires_in:?}");
    }
    let without =
        v1::SetOutageGraceRequest { grace: span(HOUR), expires_in: span(HOUR), reason: String::new() };
    assert_eq!(service.admin().set_outage_grace(without).await.unwrap_err().code(), Code::InvalidArgument);
    let empty = v1::SetOutageGraceRequest::default();
    assert_eq!(service.admin().set_outage_grace(empty).await.unwrap_err().code(), Code::InvalidArgument);
    set(&service, day * 7, day * 7).await.unwrap();
}
