//! What a flood of made-up keys can do: nothing to the others.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{
    future::join_all,
    stream::{FuturesUnordered, StreamExt as _},
};
use tenant_auth_svc::domain::{
    clock::{ManualClock, SharedClock},
    key::PresentedKey,
    scope::ScopeSet,
    validate::Question,
    verdict::{Source, Verdict},
};
use tenant_auth_testkit::Fault;

use crate::harness::{Database, LOOKUP, NOW, Service, strange_key};

/// Of 64 calls in all, those that keys nobody has heard of may have in flight.
const UNKNOWN_CALLS: u64 = 16;

fn question(key: String) -> Question {
    Question { key: PresentedKey::new(key), required_scopes: ScopeSet::EMPTY }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

async fn service(database: &Database, clock: &Arc<ManualClock>) -> Service {
    let settings = database
        .settings()
        .with_flag("TENANT_AUTH_CACHE_KEYS", Some("1000".to_owned()))
        .with_flag("TENANT_AUTH_CACHE_ABSENCES", Some("200".to_owned()))
        .with_flag("TENANT_AUTH_DATABASE_ATTEMPT_TIMEOUT", Some("30s".to_owned()))
        .with_flag("TENANT_AUTH_DATABASE_TIMEOUT", Some("30s".to_owned()));
    Service::start_with(settings, Arc::clone(clock) as SharedClock).await
}

#[tokio::test]
async fn a_flood_of_unknown_keys_neither_evicts_good_ones_nor_grows_memory() {
    let database = Database::test_server().await;
    let clock = ManualClock::at(NOW);
    let service = service(&database, &clock).await;
    let tenant = service.tenant("Acme").await;
    let mut good = Vec::new();
    for _ in 0..20 {
        good.push(question(service.key(&tenant, &[]).await.0));
    }
    let validator = service.running.validator();
    for question in &good {
        validator.decide(question, soon()).await.unwrap();
    }
    // Two rounds with others in between: whatever memory keeps of a flood must not add up.
    for _ in 0..2 {
        let flood: Vec<_> = (0..3_000).map(|_| question(strange_key())).collect();
        for decision in join_all(flood.iter().map(|question| validator.decide(question, soon()))).await {
            assert_eq!(decision.unwrap().verdict, Verdict::Unknown);
        }
        let size = service.running.memory().size();
        assert_eq!((size.records, size.loads), (20, 0));
        assert!(size.absences <= 200, "{size:?}");
    }
    let requests = database.asked();
    for question in &good {
        let decision = validator.decide(question, soon()).await.unwrap();
        assert_eq!((decision.verdict, decision.provenance.source), (Verdict::Valid, Source::Fresh));
    }
    assert_eq!(database.asked(), requests, "nothing good was pushed out");
}

#[tokio::test]
async fn a_flood_of_unknown_keys_does_not_starve_the_reloads_of_good_ones() {
    let database = Database::test_server().await;
    let clock = ManualClock::at(NOW);
    let service = service(&database, &clock).await;
    let good = question(service.key(&service.tenant("Acme").await, &[]).await.0);
    let validator = service.running.validator();
    validator.decide(&good, soon()).await.unwrap();
    clock.advance(Duration::from_secs(100));

    let server = database.server();
    server.faults().set_where(LOOKUP, UNKNOWN_CALLS, Fault::Hang);
    let flood: Vec<_> = (0..3_000).map(|_| question(strange_key())).collect();
    let mut flood: FuturesUnordered<_> =
        flood.iter().map(|question| validator.decide(question, soon())).collect();
    let meanwhile = async {
        server.wait_for(|counters| counters.open_requests == UNKNOWN_CALLS).await;
        let requests = database.asked();
        // Every place for unknown keys is taken by a call that hangs, and thousands wait behind them.
        let decision = validator.decide(&good, soon()).await.unwrap();
        assert_eq!((decision.verdict, decision.provenance.source), (Verdict::Valid, Source::Database));
        let counters = server.counters();
        assert_eq!(database.asked(), requests + 1);
        assert_eq!(counters.open_requests, UNKNOWN_CALLS);
        server.faults().clear();
    };
    let all = async { while flood.next().await.is_some_and(|decision| decision.is_ok()) {} };
    tokio::join!(meanwhile, all);
    assert!(flood.is_empty(), "in the end everybody gets an answer");
    assert!(server.counters().max_open_requests <= UNKNOWN_CALLS + 1);
}
