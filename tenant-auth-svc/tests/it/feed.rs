//! The feed in rare cases that the simulation (`tests/simulation`) found, and the behavior without a feed.

use std::time::Duration;

use tenant_auth_proto::v1::{Source, Verdict};
use tenant_auth_svc::domain::store::FailureKind;
use tenant_auth_testkit::Fault;

use crate::harness::{outcome, replicas::Replicas, unknown_key};

/// One poll reports the end of a known key and a new key: the cached key is not the one that was created.
#[tokio::test]
async fn one_poll_ends_negative_entry_and_revokes_known_key() {
    let replicas = Replicas::start().await;
    let (known, known_id) = replicas.first.issue_key(&replicas.tenant, &[]).await;
    replicas.poll_second().await;
    let key = "a-key-of-another-system";
    assert_eq!(replicas.validate_on_second(key).await.0, Verdict::Unknown);
    assert_eq!(replicas.validate_on_second(&known).await.0, Verdict::Valid);
    replicas.first.revoke_key(&known_id).await;
    replicas.import_on_first(key).await;
    replicas.poll_second().await;
    assert_eq!(replicas.validate_on_second(key).await, (Verdict::Valid, Source::Database));
    assert_eq!(replicas.validate_on_second(&known).await.0, Verdict::Revoked);
}

/// A replica identifies the log by the entry at which its last poll ended, starting with the first poll: by
/// the second poll, a restored log may have grown as far or further.
#[tokio::test]
async fn change_log_restored_after_first_poll_is_detected() {
    for (what, grown) in [("as far", 0), ("farther", 2)] {
        let replicas = Replicas::start().await;
        let (key, _) = replicas.first.issue_key(&replicas.tenant, &[]).await;
        replicas.first.poll_feed().await;
        assert_eq!(replicas.first.validate(&key).await.unwrap().verdict(), Verdict::Valid);

        let server = replicas.database.server();
        let end = server.query("SELECT max(seq) FROM changes").unwrap();
        server.execute("DELETE FROM changes").unwrap();
        server.execute("UPDATE sqlite_sequence SET seq = 0 WHERE name = 'changes'").unwrap();
        let end: usize = end[0][0]["value"].as_str().unwrap().parse().unwrap();
        for _ in 0..end + grown {
            server
                .execute("INSERT INTO changes (kind, ref, tenant_id, at) VALUES ('key', 'x', 'y', 1)")
                .unwrap();
        }
        let error = replicas.first.running.feed().poll().await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Untrusted, "{what}");
    }
}

/// With `TENANT_AUTH_FEED_INTERVAL=off`, no feed poll can detect that the database is back.
#[tokio::test]
async fn outage_end_is_detected_without_feed() {
    let replicas = Replicas::start().await;
    let (key, _) = replicas.first.issue_key(&replicas.tenant, &[]).await;
    replicas.validate_on_second(&key).await;
    let server = replicas.database.server();
    server.faults().set(Fault::ResetBeforeExecute);
    for _ in 0..30 {
        assert_eq!(outcome(&replicas.second.validate(&unknown_key()).await), "Unavailable");
    }
    server.execute("UPDATE api_keys SET revoked_at = 1").unwrap();
    replicas.clock.advance(Duration::from_secs(7));
    assert_eq!(replicas.validate_on_second(&key).await, (Verdict::Valid, Source::Stale));

    // All requests are for cached keys. The breaker admits a probe at intervals of a clock that does not
    // advance by itself, and a probe may have been spent while the fault was active, so the test advances the
    // clock.
    server.faults().clear();
    let noticed = async {
        while replicas.validate_on_second(&key).await.0 != Verdict::Revoked {
            replicas.clock.advance(Duration::from_millis(100));
        }
    };
    tokio::time::timeout(Duration::from_secs(30), noticed)
        .await
        .expect("the service must notice that the database answers again");
}

#[tokio::test]
async fn invalid_feed_responses_fail_the_poll() {
    let replicas = Replicas::start().await;
    for fault in [Fault::MissingRows, Fault::TruncatedJson, Fault::html_ok(), Fault::unauthorized()] {
        replicas.database.server().faults().set(fault.clone());
        assert!(replicas.second.running.feed().poll().await.is_err(), "{fault:?}");
    }
}
