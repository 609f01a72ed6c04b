//! The cache: when entries are reloaded, and which requests wait for a load of another request.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{future::join_all, poll};
use tenant_auth_proto::v1::{self, Source, Verdict};
use tenant_auth_svc::domain::{
    client_reuse::ClientReuse,
    clock::{ManualClock, SharedClock, SystemClock},
    key::PresentedKey,
    scope::{Scope, ScopeSet},
    store::FailureKind,
    validate::KeyQuery,
    verdict,
};
use tenant_auth_testkit::Fault;

use crate::harness::{LOOKUP, NOW, TestDatabase, TestService, settings_with_long_timeouts, unknown_key};

fn answer_source(response: &v1::ValidateKeyResponse) -> Source {
    response.provenance.as_ref().unwrap().source()
}

fn key_query(key: &str) -> KeyQuery {
    KeyQuery::new(PresentedKey::new(key.to_owned()))
}

#[tokio::test]
async fn key_is_reloaded_only_after_its_fresh_time() {
    let database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    let service = TestService::start_at(&database, &clock).await;
    let (key, _) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;

    let first = service.validate(&key).await.unwrap();
    assert_eq!((first.verdict(), answer_source(&first)), (Verdict::Valid, Source::Database));
    let cacheable = first.provenance.unwrap().cacheable_for.unwrap();
    let lifetime = Duration::try_from(cacheable).unwrap();
    let (least, most) = (Duration::from_secs(4), Duration::from_secs(6));
    assert!((least..=most).contains(&lifetime), "5 s plus or minus 20 %: {lifetime:?}");

    let requests = database.caller_requests();
    clock.advance(Duration::from_millis(3_999));
    let second = service.validate(&key).await.unwrap();
    assert_eq!(answer_source(&second), Source::Fresh);
    let provenance = second.provenance.unwrap();
    assert_eq!(Duration::try_from(provenance.age.unwrap()).unwrap(), Duration::from_millis(3_999));
    assert_eq!(database.caller_requests(), requests);

    // Reading the entry did not extend its lifetime.
    clock.advance(Duration::from_millis(2_002));
    assert_eq!(answer_source(&service.validate(&key).await.unwrap()), Source::Database);
    assert_eq!(database.caller_requests(), requests + 1);
}

#[tokio::test]
async fn negative_entry_is_cached_until_key_appears() {
    let database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    let service = TestService::start_at(&database, &clock).await;
    let tenant = service.create_tenant("Acme").await;
    let key = "an-old-key-of-another-system";
    assert_eq!(answer_source(&service.validate(key).await.unwrap()), Source::Database);
    let again = service.validate(key).await.unwrap();
    assert_eq!((again.verdict(), answer_source(&again)), (Verdict::Unknown, Source::Negative));

    let hash = tenant_auth_svc::domain::key::KeyHash::of(&PresentedKey::new(key.to_owned()));
    let import = v1::ImportKey { tenant_id: tenant, sha256: hash.as_bytes().to_vec(), ..Default::default() };
    service.admin().import_keys(v1::ImportKeysRequest { keys: vec![import] }).await.unwrap();
    assert_eq!(service.validate(key).await.unwrap().verdict(), Verdict::Valid, "without waiting");
}

#[tokio::test]
async fn own_change_is_visible_immediately() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let tenant = service.create_tenant("Acme").await;
        let (first, first_id) = service.issue_key(&tenant, &[]).await;
        let (second, _) = service.issue_key(&tenant, &[]).await;
        for key in [&first, &second] {
            assert_eq!(service.validate(key).await.unwrap().verdict(), Verdict::Valid);
        }
        service.revoke_key(&first_id).await;
        assert_eq!(service.validate(&first).await.unwrap().verdict(), Verdict::Revoked);
        assert_eq!(service.validate(&second).await.unwrap().verdict(), Verdict::Valid);

        let suspend = v1::SuspendTenantRequest { tenant_id: tenant.clone(), reason: "unpaid".to_owned() };
        service.admin().suspend_tenant(suspend).await.unwrap();
        assert_eq!(service.validate(&second).await.unwrap().verdict(), Verdict::TenantSuspended);
        service
            .admin()
            .resume_tenant(v1::ResumeTenantRequest { tenant_id: tenant, ..Default::default() })
            .await
            .unwrap();
        assert_eq!(service.validate(&second).await.unwrap().verdict(), Verdict::Valid);
    }
}

#[tokio::test]
async fn ten_thousand_requests_for_one_cold_key_are_one_query() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let (key, _) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;
    let before = database.caller_requests();
    let query = key_query(&key);
    let deadline = Instant::now() + Duration::from_secs(30);
    let calls = (0..10_000).map(|_| service.running.validator().decide(&query, deadline));
    for decision in join_all(calls).await {
        assert_eq!(decision.unwrap().verdict, verdict::Verdict::Valid);
    }
    assert_eq!(database.caller_requests() - before, 1);
}

#[tokio::test]
async fn cancelled_caller_does_not_cancel_shared_load() {
    let database = TestDatabase::test_server().await;
    let service =
        TestService::start_with(settings_with_long_timeouts(&database), SystemClock::shared()).await;
    let (key, _) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;
    let before = database.caller_requests();
    database.server().faults().set(Fault::Hang);

    let (query, validator) = (key_query(&key), service.running.validator());
    let impatient = validator.decide(&query, Instant::now() + Duration::from_millis(20)).await;
    assert_eq!(impatient.unwrap_err().kind, FailureKind::TimedOut);
    let leaving = validator.decide(&query, Instant::now() + Duration::from_secs(30));
    let _ = tokio::time::timeout(Duration::from_millis(1), leaving).await;
    let timely = async {
        database.server().wait_for(|counters| counters.open_requests == 1).await;
        database.server().faults().clear();
    };
    let waiting = validator.decide(&query, Instant::now() + Duration::from_secs(30));
    let (decision, ()) = tokio::join!(waiting, timely);
    assert_eq!(decision.unwrap().verdict, verdict::Verdict::Valid);
    assert_eq!(database.caller_requests() - before, 1, "one load answers all requests");
}

/// A load that started before a revocation must not be cached after it, and must not answer requests that
/// arrive after it.
#[tokio::test]
async fn load_overlapping_revocation_is_not_cached() {
    let overlap = PendingLoad::start().await;
    let before = overlap.key_query();
    let before = overlap.service.running.validator().decide(&before, soon_deadline());
    let meanwhile = async {
        overlap.until_old_row_read().await;
        overlap.service.revoke_key(&overlap.key_id).await;
        overlap.validate_during_load().await
    };
    let (before, after) = tokio::join!(before, meanwhile);
    assert_eq!(
        before.unwrap().verdict,
        verdict::Verdict::Revoked,
        "the known revocation takes precedence over the row read"
    );
    assert_eq!(after.verdict, verdict::Verdict::Revoked);
    assert_eq!(after.provenance.reuse, ClientReuse::NONE);
    assert_eq!(
        overlap.request_count(),
        2,
        "the lookup and the revocation: the revocation is known without a load"
    );
    for expected in [Source::Database, Source::Fresh] {
        let later = overlap.service.validate(&overlap.key).await.unwrap();
        assert_eq!((later.verdict(), answer_source(&later)), (Verdict::Revoked, expected));
    }
}

/// The same rule for a change whose outcome only the database knows: later requests load again.
#[tokio::test]
async fn load_overlapping_other_change_is_repeated_for_later_requests() {
    let overlap = PendingLoad::start().await;
    let before = overlap.key_query();
    let before = overlap.service.running.validator().decide(&before, soon_deadline());
    let meanwhile = async {
        overlap.until_old_row_read().await;
        overlap.database.server().execute("UPDATE api_keys SET scopes = '[]'").unwrap();
        overlap.service.poll_feed().await;
        overlap.validate_during_load().await
    };
    let (before, after) = tokio::join!(before, meanwhile);
    let before = before.unwrap();
    assert_eq!(before.verdict, verdict::Verdict::Valid, "the request arrived before the change");
    assert_eq!(before.provenance.reuse, ClientReuse::NONE, "the answer may not be reused");
    assert_eq!(after.verdict, verdict::Verdict::InsufficientScope);
    assert_eq!(overlap.request_count(), 2, "one lookup, and another one after the change event");
    let later = overlap.service.validate_for(&overlap.key, &["a"]).await.unwrap();
    assert_eq!((later.verdict(), answer_source(&later)), (Verdict::InsufficientScope, Source::Fresh));
}

/// A database response that is older than the change log already applied must not restore the old row.
#[tokio::test]
async fn read_older_than_change_feed_is_not_cached() {
    let overlap = PendingLoad::start().await;
    let server = overlap.database.server();
    server.faults().clear();
    // The change is applied at a position that no read of this database has reached yet.
    server.execute("UPDATE api_keys SET revoked_at = 1").unwrap();
    server.execute("UPDATE changes SET seq = seq + 1000 WHERE seq = (SELECT max(seq) FROM changes)").unwrap();
    overlap.service.poll_feed().await;
    server.execute("UPDATE changes SET seq = seq - 1000 WHERE seq > 1000").unwrap();
    server.execute("DROP TRIGGER api_keys_updated").unwrap();
    server.execute("UPDATE api_keys SET revoked_at = NULL").unwrap();
    for _ in 0..2 {
        let answer = overlap.service.validate_for(&overlap.key, &["a"]).await.unwrap();
        assert_eq!((answer.verdict(), answer_source(&answer)), (Verdict::Revoked, Source::Database));
        assert_eq!(answer.provenance.unwrap().cacheable_for, Some(prost_types::Duration::default()));
    }
}

/// A load that has read a key's old row and whose response is still pending.
struct PendingLoad {
    database: TestDatabase,
    service: TestService,
    key: String,
    key_id: String,
    statements: u64,
    requests: u64,
}

impl PendingLoad {
    async fn start() -> Self {
        let database = TestDatabase::test_server().await;
        let clock = ManualClock::at(NOW);
        let service = TestService::start_with(
            settings_with_long_timeouts(&database),
            Arc::clone(&clock) as SharedClock,
        )
        .await;
        let (key, key_id) = service.issue_key(&service.create_tenant("Acme").await, &["a"]).await;
        service.poll_feed().await;
        let (statements, requests) = (database.server().counters().statements, database.caller_requests());
        database.server().faults().set_where(LOOKUP, 1, Fault::HangAfterExecute);
        Self { database, service, key, key_id, statements, requests }
    }

    fn key_query(&self) -> KeyQuery {
        let required_scopes = ScopeSet::new(vec![Scope::parse("a").unwrap()]).unwrap();
        KeyQuery { required_scopes, ..KeyQuery::new(PresentedKey::new(self.key.clone())) }
    }

    async fn until_old_row_read(&self) {
        self.database.server().wait_for(|counters| counters.statements > self.statements).await;
    }

    async fn validate_during_load(&self) -> verdict::Decision {
        let query = self.key_query();
        let mut pending_request = pin!(self.service.running.validator().decide(&query, soon_deadline()));
        assert!(poll!(pending_request.as_mut()).is_pending(), "the request joins the load");
        self.database.server().faults().clear();
        pending_request.await.unwrap()
    }

    /// Returns the number of requests so far.
    fn request_count(&self) -> u64 {
        self.database.caller_requests() - self.requests
    }
}

fn soon_deadline() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

#[tokio::test]
async fn cached_key_is_denied_at_its_expiry() {
    let database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    let service = TestService::start_at(&database, &clock).await;
    let request = v1::IssueKeyRequest {
        tenant_id: service.create_tenant("Acme").await,
        expires_at: Some(prost_types::Timestamp { seconds: NOW.0 / 1_000 + 2, nanos: 0 }),
        ..Default::default()
    };
    let key = service.admin().issue_key(request).await.unwrap().into_inner().plaintext;
    let first = service.validate(&key).await.unwrap();
    assert_eq!(first.verdict(), Verdict::Valid);
    let cacheable = Duration::try_from(first.provenance.unwrap().cacheable_for.unwrap()).unwrap();
    assert_eq!(cacheable, Duration::from_secs(2), "not beyond the key's expiry");
    clock.advance(Duration::from_secs(2));
    let second = service.validate(&key).await.unwrap();
    assert_eq!((second.verdict(), answer_source(&second)), (Verdict::Expired, Source::Fresh));
}

#[tokio::test]
async fn unknown_keys_do_not_evict_known_keys() {
    let database = TestDatabase::test_server().await;
    let settings = database
        .settings()
        .with_flag("TENANT_AUTH_CACHE_KEYS", Some("100".to_owned()))
        .with_flag("TENANT_AUTH_CACHE_NEGATIVE_ENTRIES", Some("100".to_owned()));
    let clock = ManualClock::at(NOW);
    let service = TestService::start_with(settings, clock as SharedClock).await;
    let (key, _) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;
    service.validate(&key).await.unwrap();
    for _ in 0..5 {
        let requests = (0..1_000)
            .map(|_| v1::ValidateKeyRequest {
                key: unknown_key(),
                required_scopes: Vec::new(),
                ..Default::default()
            })
            .collect();
        service.validation().batch_validate_keys(v1::BatchValidateKeysRequest { requests }).await.unwrap();
    }
    assert_eq!(answer_source(&service.validate(&key).await.unwrap()), Source::Fresh);
}
