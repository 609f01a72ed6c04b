//! Memory: what is asked again and when, and who waits for whom.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{future::join_all, poll};
use tenant_auth_proto::v1::{self, Source, Verdict};
use tenant_auth_svc::{
    config::Settings,
    domain::{
        clock::{ManualClock, SharedClock, SystemClock},
        key::PresentedKey,
        reuse::Reuse,
        scope::{Scope, ScopeSet},
        store::FailureKind,
        validate::Question,
        verdict,
    },
};
use tenant_auth_testkit::Fault;

use crate::harness::{Database, LOOKUP, NOW, Service, strange_key};

/// So much time for the hop that a database that hangs is what the test says it is.
pub(crate) fn patient(database: &Database) -> Settings {
    database
        .settings()
        .with_flag("TENANT_AUTH_DATABASE_ATTEMPT_TIMEOUT", Some("30s".to_owned()))
        .with_flag("TENANT_AUTH_DATABASE_TIMEOUT", Some("30s".to_owned()))
}

fn source(response: &v1::ValidateKeyResponse) -> Source {
    response.provenance.as_ref().unwrap().source()
}

fn question(key: &str) -> Question {
    Question { key: PresentedKey::new(key.to_owned()), required_scopes: ScopeSet::EMPTY }
}

#[tokio::test]
async fn a_key_is_asked_for_again_after_its_fresh_time_and_not_before() {
    let database = Database::test_server().await;
    let clock = ManualClock::at(NOW);
    let service = Service::start_at(&database, &clock).await;
    let (key, _) = service.key(&service.tenant("Acme").await, &[]).await;

    let first = service.validate(&key).await.unwrap();
    assert_eq!((first.verdict(), source(&first)), (Verdict::Valid, Source::Database));
    let cacheable = first.provenance.unwrap().cacheable_for.unwrap();
    let lifetime = Duration::try_from(cacheable).unwrap();
    let (least, most) = (Duration::from_secs(4), Duration::from_secs(6));
    assert!((least..=most).contains(&lifetime), "5 s, 20 % more or less: {lifetime:?}");

    let requests = database.asked();
    clock.advance(Duration::from_millis(3_999));
    let second = service.validate(&key).await.unwrap();
    assert_eq!(source(&second), Source::Fresh);
    let provenance = second.provenance.unwrap();
    assert_eq!(Duration::try_from(provenance.age.unwrap()).unwrap(), Duration::from_millis(3_999));
    assert_eq!(database.asked(), requests);

    // Reading did not prolong anything.
    clock.advance(Duration::from_millis(2_002));
    assert_eq!(source(&service.validate(&key).await.unwrap()), Source::Database);
    assert_eq!(database.asked(), requests + 1);
}

#[tokio::test]
async fn an_absence_is_remembered_and_forgotten_when_the_key_appears() {
    let database = Database::test_server().await;
    let clock = ManualClock::at(NOW);
    let service = Service::start_at(&database, &clock).await;
    let tenant = service.tenant("Acme").await;
    let key = "an-old-key-of-another-system";
    assert_eq!(source(&service.validate(key).await.unwrap()), Source::Database);
    let again = service.validate(key).await.unwrap();
    assert_eq!((again.verdict(), source(&again)), (Verdict::Unknown, Source::Negative));

    let hash = tenant_auth_svc::domain::key::KeyHash::of(&PresentedKey::new(key.to_owned()));
    let import = v1::ImportKey { tenant_id: tenant, sha256: hash.as_bytes().to_vec(), ..Default::default() };
    service.admin().import_keys(v1::ImportKeysRequest { keys: vec![import] }).await.unwrap();
    assert_eq!(service.validate(key).await.unwrap().verdict(), Verdict::Valid, "at once");
}

#[tokio::test]
async fn a_change_on_this_replica_is_seen_at_once() {
    for database in Database::all().await {
        let service = Service::start(&database).await;
        let tenant = service.tenant("Acme").await;
        let (first, first_id) = service.key(&tenant, &[]).await;
        let (second, _) = service.key(&tenant, &[]).await;
        for key in [&first, &second] {
            assert_eq!(service.validate(key).await.unwrap().verdict(), Verdict::Valid);
        }
        service.revoke(&first_id).await;
        assert_eq!(service.validate(&first).await.unwrap().verdict(), Verdict::Revoked);
        assert_eq!(service.validate(&second).await.unwrap().verdict(), Verdict::Valid);

        let suspend = v1::SuspendTenantRequest { tenant_id: tenant.clone(), reason: "unpaid".to_owned() };
        service.admin().suspend_tenant(suspend).await.unwrap();
        assert_eq!(service.validate(&second).await.unwrap().verdict(), Verdict::TenantSuspended);
        service.admin().resume_tenant(v1::ResumeTenantRequest { tenant_id: tenant }).await.unwrap();
        assert_eq!(service.validate(&second).await.unwrap().verdict(), Verdict::Valid);
    }
}

#[tokio::test]
async fn ten_thousand_callers_on_one_cold_key_are_one_query() {
    let database = Database::test_server().await;
    let service = Service::start(&database).await;
    let (key, _) = service.key(&service.tenant("Acme").await, &[]).await;
    let before = database.asked();
    let question = question(&key);
    let deadline = Instant::now() + Duration::from_secs(30);
    let calls = (0..10_000).map(|_| service.running.validator().decide(&question, deadline));
    for decision in join_all(calls).await {
        assert_eq!(decision.unwrap().verdict, verdict::Verdict::Valid);
    }
    assert_eq!(database.asked() - before, 1);
}

#[tokio::test]
async fn a_caller_that_gives_up_does_not_end_the_load_for_the_others() {
    let database = Database::test_server().await;
    let service = Service::start_with(patient(&database), SystemClock::shared()).await;
    let (key, _) = service.key(&service.tenant("Acme").await, &[]).await;
    let before = database.asked();
    database.server().faults().set(Fault::Hang);

    let (question, validator) = (question(&key), service.running.validator());
    let impatient = validator.decide(&question, Instant::now() + Duration::from_millis(20)).await;
    assert_eq!(impatient.unwrap_err().kind, FailureKind::TimedOut);
    let leaving = validator.decide(&question, Instant::now() + Duration::from_secs(30));
    let _ = tokio::time::timeout(Duration::from_millis(1), leaving).await;
    let patient = async {
        database.server().wait_for(|counters| counters.open_requests == 1).await;
        database.server().faults().clear();
    };
    let waiting = validator.decide(&question, Instant::now() + Duration::from_secs(30));
    let (decision, ()) = tokio::join!(waiting, patient);
    assert_eq!(decision.unwrap().verdict, verdict::Verdict::Valid);
    assert_eq!(database.asked() - before, 1, "one load served them all");
}

/// A read that began before a revocation must not be remembered after it, nor answer those who ask after it.
#[tokio::test]
async fn a_load_that_overlaps_a_revocation_is_not_remembered() {
    let overlap = Overlap::start().await;
    let before = overlap.question();
    let before = overlap.service.running.validator().decide(&before, soon());
    let meanwhile = async {
        overlap.old_row_is_read().await;
        overlap.service.revoke(&overlap.key_id).await;
        overlap.ask_while_it_is_under_way().await
    };
    let (before, after) = tokio::join!(before, meanwhile);
    assert_eq!(before.unwrap().verdict, verdict::Verdict::Revoked, "what is known wins over what was read");
    assert_eq!(after.verdict, verdict::Verdict::Revoked);
    assert_eq!(after.provenance.reuse, Reuse::NONE);
    assert_eq!(
        overlap.requests(),
        2,
        "the lookup and the revocation: the end is known, nobody has to ask for it"
    );
    for expected in [Source::Database, Source::Fresh] {
        let later = overlap.service.validate(&overlap.key).await.unwrap();
        assert_eq!((later.verdict(), source(&later)), (Verdict::Revoked, expected));
    }
}

/// The same for a change that only the database knows the outcome of: whoever asks after it asks again.
#[tokio::test]
async fn a_load_that_overlaps_another_change_is_repeated_for_those_who_ask_after_it() {
    let overlap = Overlap::start().await;
    let before = overlap.question();
    let before = overlap.service.running.validator().decide(&before, soon());
    let meanwhile = async {
        overlap.old_row_is_read().await;
        overlap.database.server().execute("UPDATE api_keys SET scopes = '[]'").unwrap();
        overlap.service.hears().await;
        overlap.ask_while_it_is_under_way().await
    };
    let (before, after) = tokio::join!(before, meanwhile);
    let before = before.unwrap();
    assert_eq!(before.verdict, verdict::Verdict::Valid, "it asked before the change");
    assert_eq!(before.provenance.reuse, Reuse::NONE, "and may not keep the answer");
    assert_eq!(after.verdict, verdict::Verdict::InsufficientScope);
    assert_eq!(overlap.requests(), 2, "a lookup, and another one after the news");
    let later = overlap.service.validate_for(&overlap.key, &["a"]).await.unwrap();
    assert_eq!((later.verdict(), source(&later)), (Verdict::InsufficientScope, Source::Fresh));
}

/// A database whose answer lags behind what the change log has told already must not bring the old row back.
#[tokio::test]
async fn a_read_that_lags_behind_the_news_is_not_remembered() {
    let overlap = Overlap::start().await;
    let server = overlap.database.server();
    server.faults().clear();
    // Heard of at a position that no read of this database reaches yet.
    server.execute("UPDATE api_keys SET revoked_at = 1").unwrap();
    server.execute("UPDATE changes SET seq = seq + 1000 WHERE seq = (SELECT max(seq) FROM changes)").unwrap();
    overlap.service.hears().await;
    server.execute("UPDATE changes SET seq = seq - 1000 WHERE seq > 1000").unwrap();
    server.execute("DROP TRIGGER api_keys_updated").unwrap();
    server.execute("UPDATE api_keys SET revoked_at = NULL").unwrap();
    for _ in 0..2 {
        let answer = overlap.service.validate_for(&overlap.key, &["a"]).await.unwrap();
        assert_eq!((answer.verdict(), source(&answer)), (Verdict::Revoked, Source::Database));
        assert_eq!(answer.provenance.unwrap().cacheable_for, Some(prost_types::Duration::default()));
    }
}

/// A key whose old row has been read while the answer is still under way.
struct Overlap {
    database: Database,
    service: Service,
    key: String,
    key_id: String,
    statements: u64,
    requests: u64,
}

impl Overlap {
    async fn start() -> Self {
        let database = Database::test_server().await;
        let clock = ManualClock::at(NOW);
        let service = Service::start_with(patient(&database), Arc::clone(&clock) as SharedClock).await;
        let (key, key_id) = service.key(&service.tenant("Acme").await, &["a"]).await;
        service.hears().await;
        let (statements, requests) = (database.server().counters().statements, database.asked());
        database.server().faults().set_where(LOOKUP, 1, Fault::HangAfterExecute);
        Self { database, service, key, key_id, statements, requests }
    }

    fn question(&self) -> Question {
        let required_scopes = ScopeSet::new(vec![Scope::parse("a").unwrap()]).unwrap();
        Question { key: PresentedKey::new(self.key.clone()), required_scopes }
    }

    async fn old_row_is_read(&self) {
        self.database.server().wait_for(|counters| counters.statements > self.statements).await;
    }

    async fn ask_while_it_is_under_way(&self) -> verdict::Decision {
        let question = self.question();
        let mut asking = pin!(self.service.running.validator().decide(&question, soon()));
        assert!(poll!(asking.as_mut()).is_pending(), "it joins the load");
        self.database.server().faults().clear();
        asking.await.unwrap()
    }

    /// Requests so far.
    fn requests(&self) -> u64 {
        self.database.asked() - self.requests
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

#[tokio::test]
async fn a_keys_own_end_is_kept_while_it_is_in_memory() {
    let database = Database::test_server().await;
    let clock = ManualClock::at(NOW);
    let service = Service::start_at(&database, &clock).await;
    let request = v1::IssueKeyRequest {
        tenant_id: service.tenant("Acme").await,
        expires_at: Some(prost_types::Timestamp { seconds: NOW.0 / 1_000 + 2, nanos: 0 }),
        ..Default::default()
    };
    let key = service.admin().issue_key(request).await.unwrap().into_inner().plaintext;
    let first = service.validate(&key).await.unwrap();
    assert_eq!(first.verdict(), Verdict::Valid);
    let cacheable = Duration::try_from(first.provenance.unwrap().cacheable_for.unwrap()).unwrap();
    assert_eq!(cacheable, Duration::from_secs(2), "not beyond the key's own end");
    clock.advance(Duration::from_secs(2));
    let second = service.validate(&key).await.unwrap();
    assert_eq!((second.verdict(), source(&second)), (Verdict::Expired, Source::Fresh));
}

#[tokio::test]
async fn unknown_keys_do_not_push_known_ones_out() {
    let database = Database::test_server().await;
    let settings = database
        .settings()
        .with_flag("TENANT_AUTH_CACHE_KEYS", Some("100".to_owned()))
        .with_flag("TENANT_AUTH_CACHE_ABSENCES", Some("100".to_owned()));
    let clock = ManualClock::at(NOW);
    let service = Service::start_with(settings, clock as SharedClock).await;
    let (key, _) = service.key(&service.tenant("Acme").await, &[]).await;
    service.validate(&key).await.unwrap();
    for _ in 0..5 {
        let requests = (0..1_000)
            .map(|_| v1::ValidateKeyRequest { key: strange_key(), required_scopes: Vec::new() })
            .collect();
        service.validation().batch_validate_keys(v1::BatchValidateKeysRequest { requests }).await.unwrap();
    }
    assert_eq!(source(&service.validate(&key).await.unwrap()), Source::Fresh);
}
