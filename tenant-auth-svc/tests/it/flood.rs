//! What a flood of made-up keys can do: nothing to the others.

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
    guesses::{Asker, OnBehalf},
    key::PresentedKey,
    scope::ScopeSet,
    store::{FailureKind, StoreError},
    validate::Question,
    verdict::{Decision, Source, Verdict},
};
use tenant_auth_testkit::Fault;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{
    harness::{Database, LOOKUP, NOW, Service, strange_key},
    scrape::Scrape,
};

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

/// Ten a second each, and fifteen in all; ten times as many at once.
async fn guarded(database: &Database, clock: &Arc<ManualClock>) -> Service {
    let settings = database
        .settings()
        .with_flag("TENANT_AUTH_GUESSES_PER_CALLER", Some("10".to_owned()))
        .with_flag("TENANT_AUTH_GUESSES", Some("15".to_owned()))
        .with_flag("TENANT_AUTH_DATABASE_ATTEMPT_TIMEOUT", Some("30s".to_owned()))
        .with_flag("TENANT_AUTH_DATABASE_TIMEOUT", Some("30s".to_owned()));
    Service::start_with(settings, Arc::clone(clock) as SharedClock).await
}

fn by(caller: &str) -> OnBehalf {
    OnBehalf { asker: Asker::caller(caller.into()), deadline: soon() }
}

/// How many of so many made-up keys a caller is told about; the others are refused.
async fn guess(service: &Service, caller: &str, count: usize) -> usize {
    let questions: Vec<_> = (0..count).map(|_| question(strange_key())).collect();
    let validator = service.running.validator();
    let answers =
        join_all(questions.iter().map(|question| validator.decide(question, by(caller)))).await.into_iter();
    let is_told = |answer: Result<Decision, StoreError>| match answer {
        Ok(decision) => {
            assert_eq!(decision.verdict, Verdict::Unknown);
            true
        }
        Err(error) => {
            assert_eq!(error.kind, FailureKind::TooManyGuesses);
            false
        }
    };
    answers.map(is_told).filter(|is_told| *is_told).count()
}

#[tokio::test]
async fn guesses_of_one_caller_have_a_bound_and_leave_those_of_others_alone() {
    let database = Database::test_server().await;
    let clock = ManualClock::at(NOW);
    let service = guarded(&database, &clock).await;
    let tenant = service.tenant("Acme").await;
    let (known, _) = service.key(&tenant, &[]).await;
    let (never_seen, never_seen_id) = service.key(&tenant, &[]).await;
    service.validate(&known).await.unwrap();
    // What this replica has issued it knows; what it has forgotten is as new.
    let sql = format!("UPDATE api_keys SET expires_at = NULL WHERE id = '{never_seen_id}'");
    assert_eq!(database.server().execute(&sql), Ok(1));
    service.hears().await;

    assert_eq!(guess(&service, "one", 300).await, 100);
    let requests = database.asked();
    assert_eq!(guess(&service, "one", 300).await, 0);
    assert_eq!(database.asked(), requests, "refused before anything is asked");
    let validator = service.running.validator();
    for key in [&known, &never_seen] {
        let decision = validator.decide(&question(key.clone()), by("two")).await.unwrap();
        assert_eq!(decision.verdict, Verdict::Valid, "another caller's");
    }
    let decision = validator.decide(&question(known.clone()), by("one")).await.unwrap();
    assert_eq!(decision.verdict, Verdict::Valid, "what is known is no guess");
    clock.advance(Duration::from_secs(60));
    let decision = validator.decide(&question(known), by("one")).await.unwrap();
    assert_eq!(decision.verdict, Verdict::Valid, "nor is it when it has to be asked for again");

    assert_eq!(guess(&service, "one", 300).await, 100, "they come back");
    assert_eq!(guess(&service, "two", 300).await, 50, "all together have a bound too");
    clock.advance(Duration::from_secs(1));
    assert_eq!(guess(&service, "one", 300).await, 10);
    let scrape = Scrape::of(&service).await;
    assert!(scrape.number(r#"tenant_auth_guesses_refused_total{bound="caller"}"#) >= 990.0);
    scrape.is(r#"tenant_auth_guesses_refused_total{bound="process"}"#, 250.0);
}

/// After a start everything is new, and nothing of it a guess.
#[tokio::test]
async fn first_lookups_of_good_keys_are_no_guesses() {
    let database = Database::test_server().await;
    let clock = ManualClock::at(NOW);
    let first = guarded(&database, &clock).await;
    let tenant = first.tenant("Acme").await;
    let mut keys = Vec::new();
    for _ in 0..120 {
        keys.push(first.key(&tenant, &[]).await.0);
    }
    // Nothing was used so far, so that nothing is read ahead.
    let second = guarded(&database, &clock).await;
    for key in keys {
        let decision = second.running.validator().decide(&question(key), by("one")).await.unwrap();
        assert_eq!((decision.verdict, decision.provenance.source), (Verdict::Valid, Source::Database));
    }
    assert_eq!(guess(&second, "one", 300).await, 100);
}

/// Answered one by one, in a batch, on a stream, and for sessions.
#[tokio::test]
async fn who_guesses_too_much_is_told_so_and_when_to_come_again() {
    let database = Database::test_server().await;
    let clock = ManualClock::at(NOW);
    let service = guarded(&database, &clock).await;
    let requests = |count| {
        let request = |_| v1::ValidateKeyRequest { key: strange_key(), ..Default::default() };
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
    for refused in [service.validate(&strange_key()).await.unwrap_err(), session] {
        assert_eq!(refused.code(), Code::ResourceExhausted);
        let details = refused.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "TOO_MANY_GUESSES");
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
    }
    clock.advance(Duration::from_secs(1));
    assert_eq!(service.validate(&strange_key()).await.unwrap().verdict(), v1::Verdict::Unknown);
}

#[tokio::test]
async fn only_what_goes_for_want_of_room_counts_as_evicted_and_a_reload_does_not() {
    let database = Database::test_server().await;
    let clock = ManualClock::at(NOW);
    let settings = database.settings().with_flag("TENANT_AUTH_CACHE_KEYS", Some("64".to_owned()));
    let service = Service::start_with(settings, Arc::clone(&clock) as SharedClock).await;
    let tenant = service.tenant("Acme").await;
    let keys = async |count: usize| {
        let mut keys = Vec::new();
        for _ in 0..count {
            keys.push(question(service.key(&tenant, &[]).await.0));
        }
        keys
    };
    let validator = service.running.validator();
    let few = keys(4).await;
    for _ in 0..10 {
        for question in &few {
            assert_eq!(validator.decide(question, soon()).await.unwrap().provenance.source, Source::Database);
        }
        clock.advance(Duration::from_secs(100));
    }
    assert_eq!(service.running.memory().evicted(), (0, 0), "each was read ten times");
    for question in &keys(200).await {
        validator.decide(question, soon()).await.unwrap();
    }
    let (records, kept) = (service.running.memory().evicted().0, service.running.memory().size().records);
    assert_eq!(records + kept, 204, "each is in memory, or was pushed out once");
}
