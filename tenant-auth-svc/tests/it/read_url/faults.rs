//! What happens when the read replica lags, stands still or is down, when the primary is, and when both are.

use std::time::Duration;

use tenant_auth_proto::v1::{self, Source};
use tenant_auth_testkit::Fault;

use crate::harness::{
    LOOKUP, outcome,
    read_url::{POLL_STEP, TwoUrls},
    scrape::Scrape,
    unknown_key,
};

/// The stated bound of a revocation elsewhere, while the primary answers.
const BOUND: Duration = Duration::from_millis(1_000);

/// How a read replica behaves after the revocation.
#[derive(Clone, Copy, Debug)]
enum Behaviour {
    Follows,
    /// It shows a state that is this old.
    Lags(Duration),
    StandsStill,
    Fails,
    Hangs,
    Stops,
}

#[tokio::test]
async fn revocation_elsewhere_takes_effect_within_a_second_whatever_the_read_replica_does() {
    for behaviour in [
        Behaviour::Follows,
        Behaviour::Lags(Duration::from_millis(600)),
        Behaviour::Lags(Duration::from_secs(5)),
        Behaviour::StandsStill,
        Behaviour::Fails,
        Behaviour::Hangs,
        Behaviour::Stops,
    ] {
        let mut urls = TwoUrls::start().await;
        let (key, key_id) = urls.cold_key().await;
        urls.step().await;
        // The worst moment: the primary's log was just read.
        assert_eq!(urls.outcome(&key).await, "VERDICT_VALID");
        urls.here.running.feed().poll().await.unwrap();
        urls.elsewhere.revoke_key(&key_id).await;
        match behaviour {
            Behaviour::Fails => urls.read_replica.faults().set(Fault::service_unavailable()),
            Behaviour::Hangs => urls.read_replica.faults().set(Fault::Hang),
            Behaviour::Stops => urls.read_replica.stop().await,
            Behaviour::Follows | Behaviour::Lags(_) | Behaviour::StandsStill => {}
        }
        let mut passed = Duration::ZERO;
        while urls.outcome(&key).await != "VERDICT_REVOKED" {
            assert!(passed < BOUND, "{behaviour:?}: still valid after {passed:?}");
            passed += Duration::from_millis(250);
            urls.clock.advance(Duration::from_millis(250));
            let catches_up = match behaviour {
                Behaviour::Follows => true,
                Behaviour::Lags(lag) => passed >= lag,
                Behaviour::StandsStill | Behaviour::Fails | Behaviour::Hangs | Behaviour::Stops => false,
            };
            if catches_up {
                urls.read_replica.catch_up().await.unwrap();
            }
            let _ = urls.here.running.feed().poll().await;
        }
        let again = urls.outcome(&key).await;
        assert_eq!(
            again, "VERDICT_REVOKED",
            "{behaviour:?}: an older answer of the read replica is not used"
        );
    }
}

#[tokio::test]
async fn read_replica_that_stands_still_is_left_one_second_after_the_primary_showed_a_newer_state() {
    let urls = TwoUrls::start().await;
    let (key, key_id) = urls.cold_key().await;
    urls.follow().await;
    assert!(urls.is_used().await);
    // From here on the read replica shows no change.
    urls.elsewhere.revoke_key(&key_id).await;
    let lag =
        async || Scrape::collect(&urls.here).await.value("tenant_auth_database_read_replica_lag_seconds");
    let mut observable_for = Duration::ZERO;
    while urls.is_used().await {
        assert!(observable_for < Duration::from_secs(1), "{}", urls.status().await);
        urls.clock.advance(Duration::from_millis(50));
        let _ = urls.here.running.feed().poll().await;
        observable_for = Duration::from_secs_f64(lag().await);
    }
    assert_eq!(lag().await, 1.0);
    let status = urls.status().await;
    assert!(
        status.contains("reads go to the primary, because the read replica is unusable (behind)")
            && status.contains("the read replica is 1 s and 1 changes behind"),
        "{status}"
    );
    assert_eq!(urls.outcome(&key).await, "VERDICT_REVOKED");
    // The feed goes on at the primary: nothing is stale or unknown.
    for _ in 0..10 {
        urls.clock.advance(POLL_STEP);
        urls.here.poll_feed().await;
    }
    let (cold, _) = urls.elsewhere.issue_key(&urls.tenant, &[]).await;
    urls.clock.advance(POLL_STEP);
    urls.here.poll_feed().await;
    let before = urls.requests_with(LOOKUP);
    assert_eq!(urls.outcome(&cold).await, "VERDICT_VALID");
    assert_eq!(urls.outcome(&unknown_key()).await, "VERDICT_UNKNOWN");
    assert_eq!(urls.requests_with(LOOKUP), [before[0], before[1] + 2]);
    assert_eq!(urls.listed_keys().await.len(), 1, "lists are current");

    // It follows again, and is used after three seconds.
    for _ in 0..10 {
        urls.read_replica.catch_up().await.unwrap();
        urls.step().await;
        assert!(!urls.is_used().await, "{}", urls.status().await);
    }
    urls.follow().await;
    let before = urls.requests_with(LOOKUP);
    assert_eq!(urls.outcome(&unknown_key()).await, "VERDICT_UNKNOWN");
    assert_eq!(urls.requests_with(LOOKUP), [before[0] + 1, before[1]]);
}

/// On a quiet day only the heartbeat shows that the read replica stands still.
#[tokio::test]
async fn read_replica_that_stands_still_is_noticed_without_a_change() {
    let urls = TwoUrls::start().await;
    let mut seconds = 0;
    while urls.is_used().await {
        assert!(seconds < 4, "{}", urls.status().await);
        urls.second().await;
        seconds += 1;
    }
    assert!(urls.status().await.contains("0 changes behind"), "{}", urls.status().await);
}

#[tokio::test]
async fn read_replica_that_lags_now_and_then_does_not_make_the_route_flap() {
    let urls = TwoUrls::start().await;
    let mut changes = 0;
    let mut was_used = true;
    for step in 0..120 {
        // For most of every 2.2 s it lacks a heartbeat.
        let _ = urls.elsewhere.running.beat_if_due().await;
        if step % 8 == 0 {
            urls.read_replica.catch_up().await.unwrap();
        }
        urls.elsewhere.poll_feed().await;
        urls.step().await;
        let is_used = urls.is_used().await;
        changes += u32::from(is_used != was_used);
        was_used = is_used;
    }
    assert!(changes <= 1, "the route changed {changes} times in 33 s");
}

#[tokio::test]
async fn service_answers_while_the_read_replica_is_down_and_uses_it_again_afterwards() {
    for fault in [Fault::service_unavailable(), Fault::unauthorized(), Fault::html_ok(), Fault::ResetMidBody]
    {
        let urls = TwoUrls::start().await;
        let (first, _) = urls.cold_key().await;
        let (second, _) = urls.cold_key().await;
        urls.follow().await;
        urls.read_replica.faults().set(fault.clone());
        assert_eq!(urls.outcome(&first).await, "VERDICT_VALID", "{fault:?}");
        assert_eq!(urls.outcome(&unknown_key()).await, "VERDICT_UNKNOWN", "{fault:?}");
        assert_eq!(urls.listed_keys().await.len(), 2, "{fault:?}");
        for _ in 0..4 {
            urls.step().await;
        }
        assert!(urls.status().await.contains("unusable (failing)"), "{fault:?}: {}", urls.status().await);
        // The read replica is asked once a second, and by no caller.
        let before = urls.requests_with(LOOKUP);
        assert_eq!(urls.outcome(&second).await, "VERDICT_VALID", "{fault:?}");
        assert_eq!(urls.requests_with(LOOKUP), [before[0], before[1] + 1], "{fault:?}");
        let metrics = Scrape::collect(&urls.here).await;
        assert!(metrics.value("tenant_auth_database_read_fallbacks_total") >= 1.0, "{fault:?}");
        metrics.assert_value("tenant_auth_database_read_replica_used", 0.0);
        metrics.assert_value("tenant_auth_database_up{operation=\"read\"}", 1.0);

        urls.read_replica.faults().clear();
        urls.follow().await;
        let before = urls.requests_with(LOOKUP);
        assert_eq!(urls.outcome(&unknown_key()).await, "VERDICT_UNKNOWN", "{fault:?}");
        assert_eq!(urls.requests_with(LOOKUP), [before[0] + 1, before[1]], "{fault:?}");
    }
}

/// A lookup waits for a read replica that hangs as long as for one attempt; the primary has time left.
#[tokio::test]
async fn read_replica_that_hangs_delays_a_lookup_by_one_attempt() {
    let urls = TwoUrls::start_with(|settings| {
        settings.with_flag("TENANT_AUTH_DATABASE_ATTEMPT_TIMEOUT", Some("300ms".to_owned()))
    })
    .await;
    let (key, _) = urls.cold_key().await;
    urls.follow().await;
    urls.read_replica.faults().set(Fault::Hang);
    assert_eq!(urls.outcome(&key).await, "VERDICT_VALID");
    assert_eq!(urls.outcome(&unknown_key()).await, "VERDICT_UNKNOWN");
    let before = urls.requests_with(LOOKUP);
    assert_eq!(urls.outcome(&unknown_key()).await, "VERDICT_UNKNOWN");
    assert_eq!(urls.requests_with(LOOKUP), [before[0], before[1] + 1], "two failures are enough");
}

#[tokio::test]
async fn read_replica_answers_stale_while_the_primary_is_down() {
    let mut urls = TwoUrls::start().await;
    let (known, _) = urls.cold_key().await;
    let (cold, _) = urls.cold_key().await;
    for _ in 0..3 {
        urls.second().await;
        urls.read_replica.catch_up().await.unwrap();
    }
    urls.follow().await;
    assert_eq!(urls.outcome(&known).await, "VERDICT_VALID");
    urls.primary.server_mut().stop().await;
    // Nobody can notice yet. Answers count as of the last comparison.
    assert_eq!(urls.provenance(&known).await.0, Source::Fresh);
    for _ in 0..6 {
        urls.second().await;
    }
    let status = urls.status().await;
    assert!(status.contains("the read replica has been stalled for"), "{status}");
    urls.clock.advance(Duration::from_secs(5));
    let (source, age) = urls.provenance(&known).await;
    assert!(source == Source::Stale && age >= 10_000, "{source:?} {age}");
    let (source, age) = urls.provenance(&cold).await;
    assert!(
        source == Source::Stale && (9_000..13_000).contains(&age),
        "{source:?} {age}: as old as the comparison"
    );
    assert_eq!(
        urls.outcome(&unknown_key()).await,
        "Unavailable",
        "a key that is not found may exist at the primary"
    );
    assert!(urls.here.running.feed().poll().await.is_err(), "the feed is silent");
    let create =
        v1::CreateTenantRequest { name: "Late".to_owned(), plan: "pro".to_owned(), ..Default::default() };
    assert!(urls.here.admin().create_tenant(create).await.is_err(), "no write is acknowledged");
    assert_eq!(urls.listed_keys().await.len(), 2, "the read replica answers lists");

    urls.primary.server_mut().start_again().unwrap();
    urls.second().await;
    urls.follow().await;
    assert_eq!(urls.outcome(&unknown_key()).await, "VERDICT_UNKNOWN");
    assert!(matches!(urls.provenance(&cold).await.0, Source::Database | Source::Refreshing | Source::Fresh));
}

#[tokio::test]
async fn cache_answers_while_both_servers_are_down() {
    let mut urls = TwoUrls::start().await;
    let (known, known_id) = urls.cold_key().await;
    let (cold, _) = urls.cold_key().await;
    urls.follow().await;
    assert_eq!(urls.outcome(&known).await, "VERDICT_VALID");
    urls.read_replica.stop().await;
    urls.primary.server_mut().stop().await;
    urls.clock.advance(Duration::from_secs(10));
    let _ = urls.here.running.feed().poll().await;
    assert_eq!(urls.provenance(&known).await.0, Source::Stale);
    assert_eq!(urls.outcome(&cold).await, "Unavailable");
    assert_eq!(urls.outcome(&unknown_key()).await, "Unavailable");

    urls.primary.server_mut().start_again().unwrap();
    urls.elsewhere.revoke_key(&known_id).await;
    urls.clock.advance(POLL_STEP);
    urls.here.poll_feed().await;
    assert_eq!(urls.outcome(&known).await, "VERDICT_REVOKED");
    assert_eq!(urls.outcome(&cold).await, "VERDICT_VALID", "the primary alone is enough");
    urls.read_replica.start_again().unwrap();
    urls.follow().await;
    let batch = v1::BatchValidateKeysRequest {
        requests: vec![v1::ValidateKeyRequest { key: unknown_key(), ..Default::default() }],
    };
    urls.here.validation().batch_validate_keys(batch).await.unwrap();
    assert_eq!(outcome(&urls.here.validate(&known).await), "VERDICT_REVOKED");
}

/// The read replica lacks what the feed has already reported, and the primary fails at that moment.
#[tokio::test]
async fn older_answer_is_not_used_when_the_primary_fails_as_well() {
    let mut urls = TwoUrls::start().await;
    let (key, key_id) = urls.cold_key().await;
    urls.follow().await;
    let scopes = format!("UPDATE api_keys SET scopes = '[\"a\"]' WHERE id = '{key_id}'");
    urls.primary.server().execute(&scopes).unwrap();
    urls.clock.advance(Duration::from_secs(1));
    urls.here.poll_feed().await;
    urls.primary.server_mut().stop().await;
    assert_eq!(urls.outcome(&key).await, "Unavailable");
    assert_eq!(urls.outcome(&unknown_key()).await, "Unavailable");
    urls.read_replica.catch_up().await.unwrap();
    assert_eq!(urls.outcome(&key).await, "VERDICT_VALID", "the read replica has the change");
}
