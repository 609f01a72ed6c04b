//! The feed in rare cases, which the simulation (`tests/simulation`) has led to; and what happens without one.

use std::time::Duration;

use tenant_auth_proto::v1::{Source, Verdict};
use tenant_auth_svc::domain::store::FailureKind;
use tenant_auth_testkit::Fault;

use crate::{
    freshness::Replicas,
    harness::{outcome, unknown_key},
};

/// One reading tells of a known key's end and of a new key: the one that is in memory is not the one that arrived.
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

/// A replica knows the log by the entry at which its reading ended, from the first reading on: a restored log may have
/// grown as far, or beyond that, by the second one.
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

/// With `TENANT_AUTH_FEED_INTERVAL=off` no reading of the feed is the call that finds the database back.
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

    // Nobody asks about anything but keys that are in memory. The breaker lets one call through now and then, by a clock that
    // stands still, and one may have gone through while the fault was there: so its time has to go on.
    server.faults().clear();
    let noticed = async {
        while replicas.validate_on_second(&key).await.0 != Verdict::Revoked {
            replicas.clock.advance(Duration::from_millis(100));
        }
    };
    tokio::time::timeout(Duration::from_secs(30), noticed).await.expect("the database answers again");
}

#[tokio::test]
async fn invalid_feed_responses_fail_the_poll() {
    let replicas = Replicas::start().await;
    for fault in [Fault::MissingRows, Fault::TruncatedJson, Fault::html_ok(), Fault::unauthorized()] {
        replicas.database.server().faults().set(fault.clone());
        assert!(replicas.second.running.feed().poll().await.is_err(), "{fault:?}");
    }
}
