//! What replicas learn from each other, and what memory may still be used for when they cannot.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use tenant_auth_proto::v1::{self, Source, Verdict};
use tenant_auth_svc::{
    config::Settings,
    domain::{
        clock::{ManualClock, SharedClock, SystemClock},
        key::{KeyHash, PresentedKey},
        scope::ScopeSet,
        store::FailureKind,
        validate::Question,
        verdict,
    },
};
use tenant_auth_testkit::Fault;

use crate::harness::{Database, NOW, Service, outcome, strange_key};

/// Two replicas on one database that see the same time.
pub(crate) struct Replicas {
    pub(crate) database: Database,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) one: Service,
    pub(crate) two: Service,
    pub(crate) tenant: String,
}

impl Replicas {
    pub(crate) async fn start() -> Self {
        Self::start_with(|settings| settings).await
    }

    async fn start_with(adjust: impl Fn(Settings) -> Settings) -> Self {
        let database = Database::test_server().await;
        let clock = ManualClock::at(NOW);
        let shared = || Arc::clone(&clock) as SharedClock;
        let one = Service::start_with(adjust(database.settings()), shared()).await;
        let two = Service::start_with(adjust(database.settings()), shared()).await;
        let tenant = one.tenant("Acme").await;
        let replicas = Self { database, clock, one, two, tenant };
        replicas.two_hears().await;
        replicas
    }

    pub(crate) async fn two_hears(&self) {
        self.two.hears().await;
    }

    pub(crate) async fn one_imports(&self, key: &str) {
        let hash = KeyHash::of(&PresentedKey::new(key.to_owned()));
        let import = v1::ImportKey {
            tenant_id: self.tenant.clone(),
            sha256: hash.as_bytes().to_vec(),
            ..Default::default()
        };
        self.one.admin().import_keys(v1::ImportKeysRequest { keys: vec![import] }).await.unwrap();
    }

    pub(crate) async fn two_says(&self, key: &str) -> (Verdict, Source) {
        let response = self.two.validate(key).await.unwrap();
        (response.verdict(), response.provenance.unwrap().source())
    }
}

fn question(key: String) -> Question {
    Question { key: PresentedKey::new(key), required_scopes: ScopeSet::EMPTY }
}

#[tokio::test]
async fn a_change_on_one_replica_is_known_to_the_other_after_one_read_of_the_feed() {
    let replicas = Replicas::start().await;
    let (key, key_id) = replicas.one.key(&replicas.tenant, &[]).await;
    let (other, _) = replicas.one.key(&replicas.tenant, &[]).await;
    for key in [&key, &other] {
        assert_eq!(replicas.two_says(key).await, (Verdict::Valid, Source::Database));
    }
    replicas.two_hears().await;
    replicas.one.revoke(&key_id).await;
    replicas.two_hears().await;
    assert_eq!(replicas.two_says(&key).await, (Verdict::Revoked, Source::Database));
    assert_eq!(replicas.two_says(&other).await, (Verdict::Valid, Source::Fresh), "others are left alone");

    let suspend =
        v1::SuspendTenantRequest { tenant_id: replicas.tenant.clone(), reason: "unpaid".to_owned() };
    replicas.one.admin().suspend_tenant(suspend).await.unwrap();
    replicas.two_hears().await;
    assert_eq!(replicas.two_says(&other).await.0, Verdict::TenantSuspended);

    // By another hand than ours, too.
    replicas.database.server().execute("UPDATE tenants SET status = 'active'").unwrap();
    replicas.two_hears().await;
    assert_eq!(replicas.two_says(&other).await.0, Verdict::Valid);
}

#[tokio::test]
async fn an_absence_ends_when_the_key_appears_elsewhere() {
    let replicas = Replicas::start().await;
    let key = "a-key-of-another-system";
    assert_eq!(replicas.two_says(key).await.0, Verdict::Unknown);
    replicas.one_imports(key).await;
    replicas.two_hears().await;
    assert_eq!(replicas.two_says(key).await, (Verdict::Valid, Source::Database));
}

#[tokio::test]
async fn while_the_feed_is_heard_an_older_answer_is_served_and_reloaded_once() {
    let patient = |settings: Settings| {
        settings
            .with_flag("TENANT_AUTH_DATABASE_ATTEMPT_TIMEOUT", Some("30s".to_owned()))
            .with_flag("TENANT_AUTH_DATABASE_TIMEOUT", Some("30s".to_owned()))
    };
    let replicas = Replicas::start_with(patient).await;
    let (key, _) = replicas.one.key(&replicas.tenant, &[]).await;
    replicas.two_says(&key).await;
    replicas.clock.advance(Duration::from_secs(7));
    replicas.two_hears().await;

    let requests = replicas.database.asked();
    replicas.database.server().faults().set(Fault::Hang);
    // In the process itself: a busy machine must not make the reload hang for longer than a load may take.
    let question = question(key.clone());
    for _ in 0..100 {
        let deadline = Instant::now() + Duration::from_secs(30);
        let decision = replicas.two.running.validator().decide(&question, deadline).await.unwrap();
        assert_eq!(decision.verdict, verdict::Verdict::Valid);
        assert_eq!(decision.provenance.source, verdict::Source::Refreshing, "without a wait");
    }
    replicas.database.server().wait_for(|counters| counters.open_requests == 1).await;
    replicas.database.server().faults().clear();
    replicas.database.server().wait_for(|counters| counters.open_requests == 0).await;
    assert_eq!(replicas.database.asked(), requests + 1, "one reload for a hundred answers");
    // The reload lands in a task of its own: whoever asks meanwhile joins it.
    let (verdict, source) = replicas.two_says(&key).await;
    assert_eq!(verdict, Verdict::Valid);
    assert!(matches!(source, Source::Fresh | Source::Refreshing), "{source:?}");
}

#[tokio::test]
async fn while_the_feed_is_silent_an_older_answer_is_verified_first() {
    let replicas = Replicas::start().await;
    let (key, key_id) = replicas.one.key(&replicas.tenant, &[]).await;
    replicas.two_says(&key).await;
    replicas.one.revoke(&key_id).await;
    // Nobody told the second replica: within the fresh time it cannot know, and after it, it asks.
    assert_eq!(replicas.two_says(&key).await, (Verdict::Valid, Source::Fresh));
    replicas.clock.advance(Duration::from_secs(6));
    assert_eq!(replicas.two_says(&key).await, (Verdict::Revoked, Source::Database));
}

#[tokio::test]
async fn an_outage_serves_known_keys_until_the_grace_ends_and_unknown_ones_never() {
    let replicas = Replicas::start().await;
    let (key, _) = replicas.one.key(&replicas.tenant, &[]).await;
    let stranger = strange_key();
    replicas.two_says(&key).await;
    assert_eq!(replicas.two_says(&stranger).await.0, Verdict::Unknown);
    replicas.database.server().faults().set(Fault::service_unavailable());

    for seconds in [7, 100, 7_093, 7_199] {
        replicas.clock.advance(Duration::from_secs(seconds));
        assert_eq!(replicas.two_says(&key).await, (Verdict::Valid, Source::Stale), "{seconds}");
        assert_eq!(
            outcome(&replicas.two.validate(&stranger).await),
            "Unavailable",
            "an absence is never stale"
        );
    }
    // 14,399 s so far. Failures and reads have not prolonged it.
    replicas.clock.advance(Duration::from_secs(1));
    assert_eq!(outcome(&replicas.two.validate(&key).await), "Unavailable");

    replicas.database.server().faults().clear();
    replicas.clock.advance(Duration::from_secs(1));
    assert_eq!(replicas.two_says(&key).await.0, Verdict::Valid);
}

#[tokio::test]
async fn without_a_grace_nothing_outlives_its_fresh_time_in_an_outage() {
    let strict = |settings: Settings| settings.with_flag("TENANT_AUTH_CACHE_GRACE", Some("0s".to_owned()));
    let replicas = Replicas::start_with(strict).await;
    let (key, _) = replicas.one.key(&replicas.tenant, &[]).await;
    replicas.two_says(&key).await;
    replicas.database.server().faults().set(Fault::service_unavailable());
    replicas.clock.advance(Duration::from_secs(7));
    assert_eq!(outcome(&replicas.two.validate(&key).await), "Unavailable");
}

#[tokio::test]
async fn a_revocation_heard_of_before_an_outage_is_kept_through_it() {
    let replicas = Replicas::start().await;
    let (key, key_id) = replicas.one.key(&replicas.tenant, &[]).await;
    let (seen, seen_id) = replicas.one.key(&replicas.tenant, &[]).await;
    for key in [&key, &seen] {
        replicas.two_says(key).await;
    }
    replicas.one.revoke(&key_id).await;
    replicas.one.revoke(&seen_id).await;
    replicas.two_hears().await;
    assert_eq!(replicas.two_says(&seen).await.0, Verdict::Revoked);
    replicas.database.server().faults().set(Fault::ResetBeforeExecute);
    replicas.clock.advance(Duration::from_secs(3_600));
    // The news itself was enough: nobody has asked about the first one since.
    assert_eq!(replicas.two_says(&key).await, (Verdict::Revoked, Source::Stale));
    assert_eq!(replicas.two_says(&seen).await, (Verdict::Revoked, Source::Stale));
}

#[tokio::test]
async fn a_key_ends_in_an_outage_as_ever() {
    let replicas = Replicas::start().await;
    let request = v1::IssueKeyRequest {
        tenant_id: replicas.tenant.clone(),
        expires_at: Some(prost_types::Timestamp { seconds: NOW.0 / 1_000 + 60, nanos: 0 }),
        ..Default::default()
    };
    let key = replicas.one.admin().issue_key(request).await.unwrap().into_inner().plaintext;
    replicas.two_says(&key).await;
    replicas.database.server().faults().set(Fault::ResetBeforeExecute);
    replicas.clock.advance(Duration::from_secs(59));
    assert_eq!(replicas.two_says(&key).await, (Verdict::Valid, Source::Stale));
    replicas.clock.advance(Duration::from_secs(1));
    assert_eq!(replicas.two_says(&key).await, (Verdict::Expired, Source::Stale));
}

/// A log that was pruned too far does not reach back. (What does not go on at all is another database, or one that was rolled
/// back: see `identity`.)
#[tokio::test]
async fn a_log_that_does_not_reach_back_makes_memory_verify_everything() {
    let replicas = Replicas::start().await;
    let (key, _) = replicas.one.key(&replicas.tenant, &[]).await;
    replicas.two_says(&key).await;
    replicas.two_hears().await;
    assert_eq!(replicas.two_says(&key).await.1, Source::Fresh, "what the log tells of its birth is no news");
    let server = replicas.database.server();
    let pruned = "INSERT INTO changes (seq, kind, ref, tenant_id, at) VALUES (9000, 'key', 'x', 'y', 1), \
                  (9001, 'key', 'x', 'y', 1)";
    server.execute(pruned).unwrap();
    server.execute("DELETE FROM changes WHERE seq < 9001").unwrap();
    replicas.clock.advance(Duration::from_millis(10));
    replicas.two_hears().await;
    // In an outage it may stand in; with a database it is verified.
    server.faults().set(Fault::ResetBeforeExecute);
    assert_eq!(replicas.two_says(&key).await, (Verdict::Valid, Source::Stale));
    server.faults().clear();
    assert_eq!(replicas.two_says(&key).await.1, Source::Database);
    assert_eq!(replicas.two_says(&key).await.1, Source::Fresh, "once");
}

/// With the feed running by itself, as in production, on all replicas.
#[tokio::test]
async fn three_replicas_refuse_a_revoked_key_without_being_asked_to_look() {
    let database = Database::test_server().await;
    let settings = || {
        database
            .settings()
            .with_flag("TENANT_AUTH_FEED_INTERVAL", Some("10ms".to_owned()))
            // Longer than the wait below: what is noticed in that is noticed by the feed.
            .with_flag("TENANT_AUTH_CACHE_FRESH", Some("60s".to_owned()))
    };
    let one = Service::start_with(settings(), SystemClock::shared()).await;
    let others = [
        Service::start_with(settings(), SystemClock::shared()).await,
        Service::start_with(settings(), SystemClock::shared()).await,
    ];
    let (key, key_id) = one.key(&one.tenant("Acme").await, &[]).await;
    for other in &others {
        assert_eq!(other.validate(&key).await.unwrap().verdict(), Verdict::Valid);
    }
    one.revoke(&key_id).await;
    for other in &others {
        let refused = async {
            while other.validate(&key).await.unwrap().verdict() != Verdict::Revoked {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), refused).await.expect("by the feed");
    }
}

#[tokio::test]
async fn a_database_that_does_not_answer_is_asked_less_and_less_and_known_keys_do_not_wait() {
    let replicas = Replicas::start().await;
    let (key, _) = replicas.one.key(&replicas.tenant, &[]).await;
    replicas.two_says(&key).await;
    replicas.clock.advance(Duration::from_secs(7));
    let server = replicas.database.server();
    server.faults().set(Fault::ResetBeforeExecute);
    for _ in 0..30 {
        assert_eq!(outcome(&replicas.two.validate(&strange_key()).await), "Unavailable");
    }
    let requests = replicas.database.asked();
    // In the process itself: a minute of a busy machine would bring upkeep, which asks too.
    let (validator, deadline) = (replicas.two.running.validator(), Instant::now() + Duration::from_secs(30));
    for _ in 0..1_000 {
        let decision = validator.decide(&question(key.clone()), deadline).await.unwrap();
        assert_eq!(decision.verdict, verdict::Verdict::Valid);
        assert_eq!(decision.provenance.source, verdict::Source::Stale);
    }
    for _ in 0..100 {
        let error = validator.decide(&question(strange_key()), deadline).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::CircuitOpen);
    }
    assert_eq!(replicas.database.asked(), requests, "the breaker is open: nothing is asked");
    server.faults().clear();
    replicas.clock.advance(Duration::from_secs(1));
    assert_eq!(replicas.two.validate(&strange_key()).await.unwrap().verdict(), Verdict::Unknown, "the probe");
    assert_eq!(replicas.two_says(&key).await.1, Source::Database, "and all is well");
}

#[tokio::test]
async fn different_cold_keys_asked_for_at_once_are_two_queries_at_most() {
    let replicas = Replicas::start().await;
    let mut keys = Vec::new();
    for _ in 0..64 {
        keys.push(replicas.one.key(&replicas.tenant, &[]).await.0);
    }
    let requests = replicas.database.asked();
    let questions: Vec<_> = keys.into_iter().map(question).collect();
    let deadline = Instant::now() + Duration::from_secs(30);
    let calls = questions.iter().map(|question| replicas.two.running.validator().decide(question, deadline));
    for decision in join_all(calls).await {
        assert!(decision.unwrap().key.is_some());
    }
    assert!(replicas.database.asked() - requests <= 2);
}
