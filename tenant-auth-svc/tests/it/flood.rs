//! A flood of made-up keys does not affect other callers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{
    future::join_all,
    stream::{FuturesUnordered, StreamExt as _},
};
use tenant_auth_proto::v1::{self, batch_validate_keys_result::Result as Outcome};
use tenant_auth_svc::domain::{
    clock::{ManualClock, SharedClock},
    key::PresentedKey,
    store::{FailureKind, StoreError},
    unknown_lookup_limiter::{LoadContext, LookupOrigin},
    validate::KeyQuery,
    verdict::{Decision, Source, Verdict},
};
use tenant_auth_testkit::Fault;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{LOOKUP, NOW, TestDatabase, TestService, scrape::Scrape, unknown_key};

/// Maximum number of calls for unknown keys in flight, of 64 in total.
const MAX_UNKNOWN_CALLS: u64 = 16;

fn key_query(key: String) -> KeyQuery {
    KeyQuery::new(PresentedKey::new(key))
}

fn soon_deadline() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

async fn service(database: &TestDatabase, clock: &Arc<ManualClock>) -> TestService {
    let settings = database
        .settings()
        .with_flag("TENANT_AUTH_CACHE_KEYS", Some("1000".to_owned()))
        .with_flag("TENANT_AUTH_CACHE_NEGATIVE_ENTRIES", Some("200".to_owned()))
        .with_flag("TENANT_AUTH_DATABASE_ATTEMPT_TIMEOUT", Some("30s".to_owned()))
        .with_flag("TENANT_AUTH_DATABASE_TIMEOUT", Some("30s".to_owned()));
    TestService::start_with(settings, Arc::clone(clock) as SharedClock).await
}

#[tokio::test]
async fn unknown_key_flood_evicts_no_good_key_and_bounds_memory() {
    let database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    let service = service(&database, &clock).await;
    let tenant = service.create_tenant("Acme").await;
    let mut good = Vec::new();
    for _ in 0..20 {
        good.push(key_query(service.issue_key(&tenant, &[]).await.0));
    }
    let validator = service.running.validator();
    for query in &good {
        validator.decide(query, soon_deadline()).await.unwrap();
    }
    // Two rounds with other keys in between: what the cache retains of a flood must not accumulate.
    for _ in 0..2 {
        let flood: Vec<_> = (0..3_000).map(|_| key_query(unknown_key())).collect();
        for decision in join_all(flood.iter().map(|query| validator.decide(query, soon_deadline()))).await {
            assert_eq!(decision.unwrap().verdict, Verdict::Unknown);
        }
        let size = service.running.key_cache().size();
        assert_eq!((size.records, size.loads), (20, 0));
        assert!(size.negative_entries <= 200, "{size:?}");
    }
    let requests = database.caller_requests();
    for query in &good {
        let decision = validator.decide(query, soon_deadline()).await.unwrap();
        assert_eq!((decision.verdict, decision.provenance.source), (Verdict::Valid, Source::Fresh));
    }
    assert_eq!(database.caller_requests(), requests, "no good key was evicted");
}

#[tokio::test]
async fn unknown_key_flood_does_not_starve_reloads() {
    let database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    let service = service(&database, &clock).await;
    let good = key_query(service.issue_key(&service.create_tenant("Acme").await, &[]).await.0);
    let validator = service.running.validator();
    validator.decide(&good, soon_deadline()).await.unwrap();
    clock.advance(Duration::from_secs(100));

    let server = database.server();
    server.faults().set_where(LOOKUP, MAX_UNKNOWN_CALLS, Fault::Hang);
    let flood: Vec<_> = (0..3_000).map(|_| key_query(unknown_key())).collect();
    let mut flood: FuturesUnordered<_> =
        flood.iter().map(|query| validator.decide(query, soon_deadline())).collect();
    let meanwhile = async {
        server.wait_for(|counters| counters.open_requests == MAX_UNKNOWN_CALLS).await;
        let requests = database.caller_requests();
        // Every permit for unknown keys is held by a call that hangs, and thousands of calls wait behind
        // them.
        let decision = validator.decide(&good, soon_deadline()).await.unwrap();
        assert_eq!((decision.verdict, decision.provenance.source), (Verdict::Valid, Source::Database));
        let counters = server.counters();
        assert_eq!(database.caller_requests(), requests + 1);
        assert_eq!(counters.open_requests, MAX_UNKNOWN_CALLS);
        server.faults().clear();
    };
    let all = async { while flood.next().await.is_some_and(|decision| decision.is_ok()) {} };
    tokio::join!(meanwhile, all);
    assert!(flood.is_empty(), "in the end every caller gets an answer");
    assert!(server.counters().max_open_requests <= MAX_UNKNOWN_CALLS + 1);
}

/// Ten unknown lookups a second per caller, fifteen in total, and bursts of ten times that.
async fn service_with_unknown_lookup_limit(database: &TestDatabase, clock: &Arc<ManualClock>) -> TestService {
    let settings = database
        .settings()
        .with_flag("TENANT_AUTH_UNKNOWN_LOOKUPS_PER_CALLER", Some("10".to_owned()))
        .with_flag("TENANT_AUTH_UNKNOWN_LOOKUPS", Some("15".to_owned()))
        .with_flag("TENANT_AUTH_DATABASE_ATTEMPT_TIMEOUT", Some("30s".to_owned()))
        .with_flag("TENANT_AUTH_DATABASE_TIMEOUT", Some("30s".to_owned()));
    TestService::start_with(settings, Arc::clone(clock) as SharedClock).await
}

fn caller_source(caller: &str) -> LoadContext {
    LoadContext { origin: LookupOrigin::caller(caller.into()), deadline: soon_deadline() }
}

/// Returns how many of `count` made-up keys are answered for a caller; the others are rejected.
async fn count_answered_unknown_lookups(service: &TestService, caller: &str, count: usize) -> usize {
    let queries: Vec<_> = (0..count).map(|_| key_query(unknown_key())).collect();
    let validator = service.running.validator();
    let answers = join_all(queries.iter().map(|query| validator.decide(query, caller_source(caller))))
        .await
        .into_iter();
    let is_answered = |answer: Result<Decision, StoreError>| match answer {
        Ok(decision) => {
            assert_eq!(decision.verdict, Verdict::Unknown);
            true
        }
        Err(error) => {
            assert_eq!(error.kind, FailureKind::TooManyUnknownLookups);
            false
        }
    };
    answers.map(is_answered).filter(|is_answered| *is_answered).count()
}

#[tokio::test]
async fn unknown_lookup_limit_applies_per_caller() {
    let database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    let service = service_with_unknown_lookup_limit(&database, &clock).await;
    let tenant = service.create_tenant("Acme").await;
    let (known, _) = service.issue_key(&tenant, &[]).await;
    let (never_seen, never_seen_id) = service.issue_key(&tenant, &[]).await;
    service.validate(&known).await.unwrap();
    // The replica has its own issued keys in the cache. This change removes one of them, so it counts as new.
    let sql = format!("UPDATE api_keys SET expires_at = NULL WHERE id = '{never_seen_id}'");
    assert_eq!(database.server().execute(&sql), Ok(1));
    service.poll_feed().await;

    assert_eq!(count_answered_unknown_lookups(&service, "one", 300).await, 100);
    let requests = database.caller_requests();
    assert_eq!(count_answered_unknown_lookups(&service, "one", 300).await, 0);
    assert_eq!(database.caller_requests(), requests, "rejected before any database request");
    let validator = service.running.validator();
    for key in [&known, &never_seen] {
        let decision = validator.decide(&key_query(key.clone()), caller_source("two")).await.unwrap();
        assert_eq!(decision.verdict, Verdict::Valid, "another caller is not limited");
    }
    let decision = validator.decide(&key_query(known.clone()), caller_source("one")).await.unwrap();
    assert_eq!(decision.verdict, Verdict::Valid, "a cached key is not an unknown lookup");
    clock.advance(Duration::from_secs(60));
    let decision = validator.decide(&key_query(known), caller_source("one")).await.unwrap();
    assert_eq!(decision.verdict, Verdict::Valid, "reloading it is not an unknown lookup either");

    assert_eq!(count_answered_unknown_lookups(&service, "one", 300).await, 100, "the tokens are refilled");
    assert_eq!(count_answered_unknown_lookups(&service, "two", 300).await, 50, "the total is limited too");
    clock.advance(Duration::from_secs(1));
    assert_eq!(count_answered_unknown_lookups(&service, "one", 300).await, 10);
    let scrape = Scrape::collect(&service).await;
    assert!(scrape.value(r#"tenant_auth_unknown_lookups_refused_total{limit="caller"}"#) >= 990.0);
    scrape.assert_value(r#"tenant_auth_unknown_lookups_refused_total{limit="process"}"#, 250.0);
}

/// After a start every key is new, and none of them counts as an unknown lookup.
#[tokio::test]
async fn first_lookup_of_good_key_is_not_counted_as_unknown() {
    let database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    let first = service_with_unknown_lookup_limit(&database, &clock).await;
    let tenant = first.create_tenant("Acme").await;
    let mut keys = Vec::new();
    for _ in 0..120 {
        keys.push(first.issue_key(&tenant, &[]).await.0);
    }
    // No key was used so far, so none is preloaded.
    let second = service_with_unknown_lookup_limit(&database, &clock).await;
    for key in keys {
        let decision =
            second.running.validator().decide(&key_query(key), caller_source("one")).await.unwrap();
        assert_eq!((decision.verdict, decision.provenance.source), (Verdict::Valid, Source::Database));
    }
    assert_eq!(count_answered_unknown_lookups(&second, "one", 300).await, 100);
}

/// For single calls, batches, streams and sessions.
#[tokio::test]
async fn unknown_lookup_error_has_reason_and_retry_delay() {
    let database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    let service = service_with_unknown_lookup_limit(&database, &clock).await;
    let requests = |count| {
        let request = |_| v1::ValidateKeyRequest { key: unknown_key(), ..Default::default() };
        v1::BatchValidateKeysRequest { requests: (0..count).map(request).collect() }
    };
    let batch = service.validation().batch_validate_keys(requests(250)).await.unwrap().into_inner();
    let refused = batch.results.iter().filter_map(|result| match result.result.as_ref().unwrap() {
        Outcome::Error(status) => Some(status.code),
        Outcome::Response(_) => None,
    });
    assert_eq!(refused.collect::<Vec<_>>(), vec![i32::from(Code::ResourceExhausted); 150]);

    let session = v1::ValidateSessionRequest { session_id: "made-up".to_owned(), ..Default::default() };
    let session = service.validation().validate_session(session).await.unwrap_err();
    for refused in [service.validate(&unknown_key()).await.unwrap_err(), session] {
        assert_eq!(refused.code(), Code::ResourceExhausted);
        let details = refused.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "TOO_MANY_UNKNOWN_LOOKUPS");
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
    }
    clock.advance(Duration::from_secs(1));
    assert_eq!(service.validate(&unknown_key()).await.unwrap().verdict(), v1::Verdict::Unknown);
}

#[tokio::test]
async fn reload_does_not_count_as_eviction() {
    let database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    let settings = database.settings().with_flag("TENANT_AUTH_CACHE_KEYS", Some("64".to_owned()));
    let service = TestService::start_with(settings, Arc::clone(&clock) as SharedClock).await;
    let tenant = service.create_tenant("Acme").await;
    let keys = async |count: usize| {
        let mut keys = Vec::new();
        for _ in 0..count {
            keys.push(key_query(service.issue_key(&tenant, &[]).await.0));
        }
        keys
    };
    let validator = service.running.validator();
    let few = keys(4).await;
    for _ in 0..10 {
        for query in &few {
            assert_eq!(
                validator.decide(query, soon_deadline()).await.unwrap().provenance.source,
                Source::Database
            );
        }
        clock.advance(Duration::from_secs(100));
    }
    assert_eq!(service.running.key_cache().evicted(), (0, 0), "each entry was read ten times");
    for query in &keys(200).await {
        validator.decide(query, soon_deadline()).await.unwrap();
    }
    let (records, kept) =
        (service.running.key_cache().evicted().0, service.running.key_cache().size().records);
    assert_eq!(records + kept, 204, "each entry is cached or was evicted once");
}
