//! The feed in rare cases, which the simulation (`tests/simulation`) has led to; and what happens without one.

use std::time::Duration;

use tenant_auth_proto::v1::{Source, Verdict};
use tenant_auth_svc::domain::store::FailureKind;
use tenant_auth_testkit::Fault;

use crate::{
    freshness::Replicas,
    harness::{outcome, strange_key},
};

/// One reading tells of a known key's end and of a new key: the one that is in memory is not the one that arrived.
#[tokio::test]
async fn an_absence_ends_beside_the_end_of_a_known_key() {
    let replicas = Replicas::start().await;
    let (known, known_id) = replicas.one.key(&replicas.tenant, &[]).await;
    replicas.two_hears().await;
    let key = "a-key-of-another-system";
    assert_eq!(replicas.two_says(key).await.0, Verdict::Unknown);
    assert_eq!(replicas.two_says(&known).await.0, Verdict::Valid);
    replicas.one.revoke(&known_id).await;
    replicas.one_imports(key).await;
    replicas.two_hears().await;
    assert_eq!(replicas.two_says(key).await, (Verdict::Valid, Source::Database));
    assert_eq!(replicas.two_says(&known).await.0, Verdict::Revoked);
}

/// A replica knows the log by the entry at which its reading ended, from the first reading on: a restored log may have
/// grown as far, or beyond that, by the second one.
#[tokio::test]
async fn a_log_that_was_restored_after_the_first_reading_is_noticed() {
    for (what, grown) in [("as far", 0), ("farther", 2)] {
        let replicas = Replicas::start().await;
        let (key, _) = replicas.one.key(&replicas.tenant, &[]).await;
        replicas.one.hears().await;
        assert_eq!(replicas.one.validate(&key).await.unwrap().verdict(), Verdict::Valid);

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
        let error = replicas.one.running.feed().poll().await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Untrusted, "{what}");
    }
}

/// With `TENANT_AUTH_FEED_INTERVAL=off` no reading of the feed is the call that finds the database back.
#[tokio::test]
async fn without_a_feed_the_end_of_an_outage_is_noticed_all_the_same() {
    let replicas = Replicas::start().await;
    let (key, _) = replicas.one.key(&replicas.tenant, &[]).await;
    replicas.two_says(&key).await;
    let server = replicas.database.server();
    server.faults().set(Fault::ResetBeforeExecute);
    for _ in 0..30 {
        assert_eq!(outcome(&replicas.two.validate(&strange_key()).await), "Unavailable");
    }
    server.execute("UPDATE api_keys SET revoked_at = 1").unwrap();
    replicas.clock.advance(Duration::from_secs(7));
    assert_eq!(replicas.two_says(&key).await, (Verdict::Valid, Source::Stale));

    // Nobody asks about anything but keys that are in memory. The breaker lets one call through now and then, by a clock that
    // stands still, and one may have gone through while the fault was there: so its time has to go on.
    server.faults().clear();
    let noticed = async {
        while replicas.two_says(&key).await.0 != Verdict::Revoked {
            replicas.clock.advance(Duration::from_millis(100));
        }
    };
    tokio::time::timeout(Duration::from_secs(30), noticed).await.expect("the database answers again");
}

#[tokio::test]
async fn a_silent_or_lying_log_is_not_heard() {
    let replicas = Replicas::start().await;
    for fault in [Fault::MissingRows, Fault::TruncatedJson, Fault::html_ok(), Fault::unauthorized()] {
        replicas.database.server().faults().set(fault.clone());
        assert!(replicas.two.running.feed().poll().await.is_err(), "{fault:?}");
    }
}
