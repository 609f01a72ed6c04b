//! How long a client may reuse an answer, and which ids invalidate it.

use std::{sync::Arc, time::Duration};

use tenant_auth_proto::v1::{self, SessionExpiry, Verdict, session_service_client::SessionServiceClient};
use tenant_auth_svc::domain::clock::{Clock as _, ManualClock};

use crate::harness::{NOW, TestDatabase, TestService, unknown_key};

const FRESH_TIME: Duration = Duration::from_secs(6);
const WATCHED_REUSE: Duration = Duration::from_secs(60);
const MINUTE: u64 = 60;

/// Returns the reuse durations without and with a watch.
fn reuse_durations(provenance: Option<v1::Provenance>) -> (Duration, Duration) {
    let provenance = provenance.unwrap();
    let read = |span: Option<prost_types::Duration>| Duration::try_from(span.unwrap()).unwrap();
    (read(provenance.cacheable_for), read(provenance.cacheable_while_watched))
}

struct ReuseSetup {
    clock: Arc<ManualClock>,
    service: TestService,
    tenant: String,
    _database: TestDatabase,
}

impl ReuseSetup {
    async fn start() -> Self {
        let database = TestDatabase::test_server().await;
        let clock = ManualClock::at(NOW);
        database.follow_clock(&clock);
        let service = TestService::start_at(&database, &clock).await;
        let tenant = service.create_tenant("Acme").await;
        Self { clock, service, tenant, _database: database }
    }

    async fn key_for(&self, lifetime: Option<Duration>) -> (String, String) {
        let end = |lifetime: Duration| {
            let millis = self.clock.now().0 + i64::try_from(lifetime.as_millis()).unwrap();
            prost_types::Timestamp { seconds: millis / 1_000, nanos: 0 }
        };
        let request = v1::IssueKeyRequest {
            tenant_id: self.tenant.clone(),
            scopes: vec!["a".to_owned()],
            expires_at: lifetime.map(end),
            ..v1::IssueKeyRequest::default()
        };
        let issued = self.service.admin().issue_key(request).await.unwrap().into_inner();
        (issued.plaintext, issued.key.unwrap().key_id)
    }

    async fn bind(&self, id: &str, key: &str, seconds: u64, expiry: SessionExpiry) {
        let request = v1::BindSessionRequest {
            session_id: id.to_owned(),
            key: key.to_owned(),
            ttl: Some(prost_types::Duration { seconds: i64::try_from(seconds).unwrap(), nanos: 0 }),
            expiry: expiry.into(),
            ..v1::BindSessionRequest::default()
        };
        let mut sessions = SessionServiceClient::new(self.service.channel.clone());
        assert_eq!(sessions.bind_session(request).await.unwrap().into_inner().verdict(), Verdict::Valid);
    }

    async fn validate_session(&self, id: &str, key: &str) -> v1::ValidateSessionResponse {
        let request = v1::ValidateSessionRequest {
            session_id: id.to_owned(),
            key: key.to_owned(),
            required_scopes: Vec::new(),
            ..Default::default()
        };
        self.service.validation().validate_session(request).await.unwrap().into_inner()
    }
}

#[tokio::test]
async fn key_reuse_lasts_a_minute_while_watched_and_never_past_expiry() {
    let setup = ReuseSetup::start().await;
    for (lifetime, expected) in
        [(None, WATCHED_REUSE), (Some(20), Duration::from_secs(20)), (Some(90), WATCHED_REUSE)]
    {
        let (key, _) = setup.key_for(lifetime.map(Duration::from_secs)).await;
        // From the database and from the cache: cached responses are encoded by other code.
        for _ in 0..2 {
            let (unwatched, watched) =
                reuse_durations(setup.service.validate(&key).await.unwrap().provenance);
            assert!(!unwatched.is_zero() && unwatched <= FRESH_TIME, "{unwatched:?}");
            assert_eq!(watched, expected, "{lifetime:?}");
        }
    }
}

#[tokio::test]
async fn watching_does_not_extend_reuse_of_unknown_answers() {
    let setup = ReuseSetup::start().await;
    for _ in 0..2 {
        let unknown = setup.service.validate(&unknown_key()).await.unwrap();
        let unbound = setup.validate_session("nobody", "").await;
        for (verdict, provenance) in
            [(unknown.verdict(), unknown.provenance), (unbound.verdict(), unbound.provenance)]
        {
            let (unwatched, watched) = reuse_durations(provenance);
            assert!(matches!(verdict, Verdict::Unknown | Verdict::Unbound), "{verdict:?}");
            assert!(!unwatched.is_zero());
            assert_eq!(watched, unwatched, "{verdict:?}");
        }
    }
    let malformed = setup.service.validate("ta_x").await.unwrap();
    assert_eq!(reuse_durations(malformed.provenance), (Duration::ZERO, Duration::ZERO));
}

#[tokio::test]
async fn session_answer_depends_on_session_and_presented_key() {
    let setup = ReuseSetup::start().await;
    let (opener, opener_id) = setup.key_for(None).await;
    let (second, second_id) = setup.key_for(Some(Duration::from_secs(30))).await;
    setup.bind("s", &opener, 45, SessionExpiry::Fixed).await;

    let alone = setup.validate_session("s", "").await;
    assert_eq!((&*alone.key_id, &*alone.presented_key_id), (&*opener_id, ""));
    assert_eq!(reuse_durations(alone.provenance).1, Duration::from_secs(45), "until the session expires");
    let both = setup.validate_session("s", &second).await;
    assert_eq!((&*both.key_id, &*both.presented_key_id), (&*opener_id, &*second_id));
    assert_eq!(reuse_durations(both.provenance).1, Duration::from_secs(30), "until the second key expires");

    let other_tenant = setup.service.create_tenant("Mallory").await;
    let (foreign, _) = setup.service.issue_key(&other_tenant, &[]).await;
    for (key, verdict) in [(foreign, Verdict::TenantMismatch), (unknown_key(), Verdict::Unknown)] {
        let denied = setup.validate_session("s", &key).await;
        assert_eq!(denied.verdict(), verdict);
        assert_eq!(
            (&*denied.key_id, &*denied.presented_key_id),
            ("", ""),
            "only ids that concern the caller"
        );
        let (unwatched, watched) = reuse_durations(denied.provenance);
        assert_eq!(watched, unwatched, "{verdict:?}");
    }
}

/// The service does not see a use that a client answers from its own cache, so the session could expire while
/// it is in use.
#[tokio::test]
async fn sliding_session_reuse_is_a_tenth_of_remaining_time() {
    let setup = ReuseSetup::start().await;
    let (key, _) = setup.key_for(None).await;
    setup.bind("short", &key, 9 * MINUTE, SessionExpiry::Sliding).await;
    setup.bind("long", &key, 10 * MINUTE, SessionExpiry::Sliding).await;
    assert_eq!(
        reuse_durations(setup.validate_session("short", "").await.provenance),
        (Duration::ZERO, Duration::ZERO)
    );
    assert_eq!(reuse_durations(setup.validate_session("long", "").await.provenance).1, WATCHED_REUSE);

    setup.clock.advance(Duration::from_secs(5 * MINUTE));
    let tenth = Duration::from_secs(30);
    assert_eq!(
        reuse_durations(setup.validate_session("long", "").await.provenance).1,
        tenth,
        "five minutes are left"
    );
    assert_eq!(
        reuse_durations(setup.validate_session("long", "").await.provenance).1,
        WATCHED_REUSE,
        "its use has extended its expiry"
    );
}

/// Otherwise the session's own invalidation would keep the answer out of every near-cache until the key is
/// read again.
#[tokio::test]
async fn answer_with_opening_key_has_revision_of_session() {
    let setup = ReuseSetup::start().await;
    let (opener, _) = setup.key_for(None).await;
    let (second, _) = setup.key_for(None).await;
    for key in [&opener, &second] {
        setup.service.validate(key).await.unwrap();
    }
    setup.bind("s", &opener, 60, SessionExpiry::Fixed).await;
    let revision = async |key: &str| setup.validate_session("s", key).await.provenance.unwrap().revision;
    let alone = revision("").await;
    assert_eq!(revision(&opener).await, alone);
    assert!(revision(&second).await < alone, "the session was read before the key");
}
