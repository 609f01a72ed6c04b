//! How replicas learn of each other's changes, and how they may use cached entries when they cannot.

use std::time::{Duration, Instant};

use futures::future::join_all;
use tenant_auth_proto::v1::{self, Source, Verdict};
use tenant_auth_svc::{
    config::Settings,
    domain::{clock::SystemClock, key::PresentedKey, store::FailureKind, validate::KeyQuery, verdict},
};
use tenant_auth_testkit::Fault;

use crate::harness::{NOW, TestDatabase, TestService, outcome, replicas::Replicas, unknown_key};

fn key_query(key: String) -> KeyQuery {
    KeyQuery::new(PresentedKey::new(key))
}

#[tokio::test]
async fn change_reaches_other_replica_after_one_feed_poll() {
    let replicas = Replicas::start().await;
    let (key, key_id) = replicas.first.issue_key(&replicas.tenant, &[]).await;
    let (other, _) = replicas.first.issue_key(&replicas.tenant, &[]).await;
    for key in [&key, &other] {
        assert_eq!(replicas.validate_on_second(key).await, (Verdict::Valid, Source::Database));
    }
    replicas.poll_second().await;
    replicas.first.revoke_key(&key_id).await;
    replicas.poll_second().await;
    assert_eq!(replicas.validate_on_second(&key).await, (Verdict::Revoked, Source::Database));
    assert_eq!(
        replicas.validate_on_second(&other).await,
        (Verdict::Valid, Source::Fresh),
        "other keys are not affected"
    );

    let suspend =
        v1::SuspendTenantRequest { tenant_id: replicas.tenant.clone(), reason: "unpaid".to_owned() };
    replicas.first.admin().suspend_tenant(suspend).await.unwrap();
    replicas.poll_second().await;
    assert_eq!(replicas.validate_on_second(&other).await.0, Verdict::TenantSuspended);

    // The same applies to changes made with SQL, past the service.
    replicas.database.server().execute("UPDATE tenants SET status = 'active'").unwrap();
    replicas.poll_second().await;
    assert_eq!(replicas.validate_on_second(&other).await.0, Verdict::Valid);
}

#[tokio::test]
async fn negative_entry_ends_when_other_replica_creates_key() {
    let replicas = Replicas::start().await;
    let key = "a-key-of-another-system";
    assert_eq!(replicas.validate_on_second(key).await.0, Verdict::Unknown);
    replicas.import_on_first(key).await;
    replicas.poll_second().await;
    assert_eq!(replicas.validate_on_second(key).await, (Verdict::Valid, Source::Database));
}

#[tokio::test]
async fn stale_entry_is_served_and_reloaded_once_while_feed_is_live() {
    let long_timeouts = |settings: Settings| {
        settings
            .with_flag("TENANT_AUTH_DATABASE_ATTEMPT_TIMEOUT", Some("30s".to_owned()))
            .with_flag("TENANT_AUTH_DATABASE_TIMEOUT", Some("30s".to_owned()))
    };
    let replicas = Replicas::start_with(long_timeouts).await;
    let (key, _) = replicas.first.issue_key(&replicas.tenant, &[]).await;
    replicas.validate_on_second(&key).await;
    replicas.clock.advance(Duration::from_secs(7));
    replicas.poll_second().await;

    let requests = replicas.database.caller_requests();
    replicas.database.server().faults().set(Fault::Hang);
    // Called within the process: on a busy machine, the reload must not hang longer than a load may take.
    let query = key_query(key.clone());
    for _ in 0..100 {
        let deadline = Instant::now() + Duration::from_secs(30);
        let decision = replicas.second.running.validator().decide(&query, deadline).await.unwrap();
        assert_eq!(decision.verdict, verdict::Verdict::Valid);
        assert_eq!(decision.provenance.source, verdict::Source::Refreshing, "without waiting");
    }
    replicas.database.server().wait_for(|counters| counters.open_requests == 1).await;
    replicas.database.server().faults().clear();
    replicas.database.server().wait_for(|counters| counters.open_requests == 0).await;
    assert_eq!(replicas.database.caller_requests(), requests + 1, "one reload for a hundred answers");
    // The reload completes in its own task, and requests that arrive meanwhile join it.
    let (verdict, source) = replicas.validate_on_second(&key).await;
    assert_eq!(verdict, Verdict::Valid);
    assert!(matches!(source, Source::Fresh | Source::Refreshing), "{source:?}");
}

#[tokio::test]
async fn stale_entry_is_revalidated_first_while_feed_is_silent() {
    let replicas = Replicas::start().await;
    let (key, key_id) = replicas.first.issue_key(&replicas.tenant, &[]).await;
    replicas.validate_on_second(&key).await;
    replicas.first.revoke_key(&key_id).await;
    // The second replica was not notified: within the fresh time it cannot know of the change, and after that
    // it reloads.
    assert_eq!(replicas.validate_on_second(&key).await, (Verdict::Valid, Source::Fresh));
    replicas.clock.advance(Duration::from_secs(6));
    assert_eq!(replicas.validate_on_second(&key).await, (Verdict::Revoked, Source::Database));
}

#[tokio::test]
async fn outage_serves_only_known_keys_until_grace_ends() {
    let replicas = Replicas::start().await;
    let (key, _) = replicas.first.issue_key(&replicas.tenant, &[]).await;
    let other_key = unknown_key();
    replicas.validate_on_second(&key).await;
    assert_eq!(replicas.validate_on_second(&other_key).await.0, Verdict::Unknown);
    replicas.database.server().faults().set(Fault::service_unavailable());

    for seconds in [7, 100, 7_093, 7_199] {
        replicas.clock.advance(Duration::from_secs(seconds));
        assert_eq!(replicas.validate_on_second(&key).await, (Verdict::Valid, Source::Stale), "{seconds}");
        assert_eq!(
            outcome(&replicas.second.validate(&other_key).await),
            "Unavailable",
            "a negative entry is never served stale"
        );
    }
    // 14,399 s have passed. Failures and reads have not extended the time.
    replicas.clock.advance(Duration::from_secs(1));
    assert_eq!(outcome(&replicas.second.validate(&key).await), "Unavailable");

    replicas.database.server().faults().clear();
    replicas.clock.advance(Duration::from_secs(1));
    assert_eq!(replicas.validate_on_second(&key).await.0, Verdict::Valid);
}

#[tokio::test]
async fn zero_grace_serves_no_stale_entry_in_outage() {
    let strict = |settings: Settings| settings.with_flag("TENANT_AUTH_CACHE_GRACE", Some("0s".to_owned()));
    let replicas = Replicas::start_with(strict).await;
    let (key, _) = replicas.first.issue_key(&replicas.tenant, &[]).await;
    replicas.validate_on_second(&key).await;
    replicas.database.server().faults().set(Fault::service_unavailable());
    replicas.clock.advance(Duration::from_secs(7));
    assert_eq!(outcome(&replicas.second.validate(&key).await), "Unavailable");
}

#[tokio::test]
async fn known_revocation_holds_through_outage() {
    let replicas = Replicas::start().await;
    let (key, key_id) = replicas.first.issue_key(&replicas.tenant, &[]).await;
    let (seen, seen_id) = replicas.first.issue_key(&replicas.tenant, &[]).await;
    for key in [&key, &seen] {
        replicas.validate_on_second(key).await;
    }
    replicas.first.revoke_key(&key_id).await;
    replicas.first.revoke_key(&seen_id).await;
    replicas.poll_second().await;
    assert_eq!(replicas.validate_on_second(&seen).await.0, Verdict::Revoked);
    replicas.database.server().faults().set(Fault::ResetBeforeExecute);
    replicas.clock.advance(Duration::from_secs(3_600));
    // The change event was enough: the first key has not been requested since.
    assert_eq!(replicas.validate_on_second(&key).await, (Verdict::Revoked, Source::Stale));
    assert_eq!(replicas.validate_on_second(&seen).await, (Verdict::Revoked, Source::Stale));
}

#[tokio::test]
async fn key_expires_during_outage() {
    let replicas = Replicas::start().await;
    let request = v1::IssueKeyRequest {
        tenant_id: replicas.tenant.clone(),
        expires_at: Some(prost_types::Timestamp { seconds: NOW.0 / 1_000 + 60, nanos: 0 }),
        ..Default::default()
    };
    let key = replicas.first.admin().issue_key(request).await.unwrap().into_inner().plaintext;
    replicas.validate_on_second(&key).await;
    replicas.database.server().faults().set(Fault::ResetBeforeExecute);
    replicas.clock.advance(Duration::from_secs(59));
    assert_eq!(replicas.validate_on_second(&key).await, (Verdict::Valid, Source::Stale));
    replicas.clock.advance(Duration::from_secs(1));
    assert_eq!(replicas.validate_on_second(&key).await, (Verdict::Expired, Source::Stale));
}

/// A log that was pruned too far does not cover the gap. (A log that does not continue at all belongs to
/// another database, or to one that was rolled back: see `identity`.)
#[tokio::test]
async fn pruned_change_log_requires_revalidation_of_all_entries() {
    let replicas = Replicas::start().await;
    let (key, _) = replicas.first.issue_key(&replicas.tenant, &[]).await;
    replicas.validate_on_second(&key).await;
    replicas.poll_second().await;
    assert_eq!(
        replicas.validate_on_second(&key).await.1,
        Source::Fresh,
        "the creation in the log is not a new change"
    );
    let server = replicas.database.server();
    let pruned = "INSERT INTO changes (seq, kind, ref, tenant_id, at) VALUES (9000, 'key', 'x', 'y', 1), \
                  (9001, 'key', 'x', 'y', 1)";
    server.execute(pruned).unwrap();
    server.execute("DELETE FROM changes WHERE seq < 9001").unwrap();
    replicas.clock.advance(Duration::from_millis(10));
    replicas.poll_second().await;
    // In an outage the entry may be served stale; with a database it is revalidated.
    server.faults().set(Fault::ResetBeforeExecute);
    assert_eq!(replicas.validate_on_second(&key).await, (Verdict::Valid, Source::Stale));
    server.faults().clear();
    assert_eq!(replicas.validate_on_second(&key).await.1, Source::Database);
    assert_eq!(replicas.validate_on_second(&key).await.1, Source::Fresh, "once");
}

/// The feed runs by itself on all replicas, as in production.
#[tokio::test]
async fn revoked_key_is_denied_by_all_replicas_through_running_feed() {
    let database = TestDatabase::test_server().await;
    let settings = || {
        database
            .settings()
            .with_flag("TENANT_AUTH_FEED_INTERVAL", Some("10ms".to_owned()))
            // Longer than the wait below, so that only the feed can report the change in that time.
            .with_flag("TENANT_AUTH_CACHE_FRESH", Some("60s".to_owned()))
    };
    let one = TestService::start_with(settings(), SystemClock::shared()).await;
    let others = [
        TestService::start_with(settings(), SystemClock::shared()).await,
        TestService::start_with(settings(), SystemClock::shared()).await,
    ];
    let (key, key_id) = one.issue_key(&one.create_tenant("Acme").await, &[]).await;
    for other in &others {
        assert_eq!(other.validate(&key).await.unwrap().verdict(), Verdict::Valid);
    }
    one.revoke_key(&key_id).await;
    for other in &others {
        let refused = async {
            while other.validate(&key).await.unwrap().verdict() != Verdict::Revoked {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), refused)
            .await
            .expect("the feed must report the revocation");
    }
}

#[tokio::test]
async fn unresponsive_database_is_backed_off_while_known_keys_serve() {
    let replicas = Replicas::start().await;
    let (key, _) = replicas.first.issue_key(&replicas.tenant, &[]).await;
    replicas.validate_on_second(&key).await;
    replicas.clock.advance(Duration::from_secs(7));
    let server = replicas.database.server();
    server.faults().set(Fault::ResetBeforeExecute);
    for _ in 0..30 {
        assert_eq!(outcome(&replicas.second.validate(&unknown_key()).await), "Unavailable");
    }
    let requests = replicas.database.caller_requests();
    // Called within the process: a minute on a busy machine would start maintenance jobs, which send requests
    // too.
    let (validator, deadline) =
        (replicas.second.running.validator(), Instant::now() + Duration::from_secs(30));
    for _ in 0..1_000 {
        let decision = validator.decide(&key_query(key.clone()), deadline).await.unwrap();
        assert_eq!(decision.verdict, verdict::Verdict::Valid);
        assert_eq!(decision.provenance.source, verdict::Source::Stale);
    }
    for _ in 0..100 {
        let error = validator.decide(&key_query(unknown_key()), deadline).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::CircuitOpen);
    }
    assert_eq!(replicas.database.caller_requests(), requests, "the breaker is open: no request is sent");
    server.faults().clear();
    replicas.clock.advance(Duration::from_secs(1));
    assert_eq!(
        replicas.second.validate(&unknown_key()).await.unwrap().verdict(),
        Verdict::Unknown,
        "the probe"
    );
    assert_eq!(replicas.validate_on_second(&key).await.1, Source::Database, "the key is loaded again");
}

#[tokio::test]
async fn concurrent_cold_keys_share_at_most_two_queries() {
    let replicas = Replicas::start().await;
    let mut keys = Vec::new();
    for _ in 0..64 {
        keys.push(replicas.first.issue_key(&replicas.tenant, &[]).await.0);
    }
    let requests = replicas.database.caller_requests();
    let queries: Vec<_> = keys.into_iter().map(key_query).collect();
    let deadline = Instant::now() + Duration::from_secs(30);
    let calls = queries.iter().map(|query| replicas.second.running.validator().decide(query, deadline));
    for decision in join_all(calls).await {
        assert!(decision.unwrap().key.is_some());
    }
    assert!(replicas.database.caller_requests() - requests <= 2);
}
