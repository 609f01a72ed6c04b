//! What the database is asked, counted by the database.

use std::time::Duration;

use tenant_auth_proto::v1;

use crate::harness::{Database, Service, owned, strange_key};

#[tokio::test]
async fn a_miss_is_one_request_and_no_new_connection() {
    let database = Database::test_server().await;
    let service = Service::start(&database).await;
    let tenant = service.tenant("Acme").await;
    let (key, _) = service.key(&tenant, &[]).await;

    let before = database.server().counters();
    assert_eq!(service.validate(&key).await.unwrap().verdict(), v1::Verdict::Valid);
    assert_eq!(service.validate(&strange_key()).await.unwrap().verdict(), v1::Verdict::Unknown);
    let after = database.server().counters();
    assert_eq!(after.requests - before.requests, 2, "one each");
    assert_eq!(after.connections, before.connections);
    assert_eq!(after.open_streams, 0, "nothing is left open on the server");

    // From memory now: nothing is asked at all.
    for _ in 0..10 {
        service.validate(&key).await.unwrap();
    }
    assert_eq!(database.server().counters(), after);
}

#[tokio::test]
async fn a_key_that_cannot_be_one_is_refused_without_asking() {
    let database = Database::test_server().await;
    let service = Service::start(&database).await;
    let before = database.server().counters();
    for key in
        ["short", "ta_tooshort", &format!("ta_{}", "a".repeat(36)), "with a space in it", &"x".repeat(300)]
    {
        let response = service.validate(key).await.unwrap();
        assert_eq!(response.verdict(), v1::Verdict::Malformed, "{key}");
    }
    assert_eq!(database.server().counters().requests, before.requests);
}

#[tokio::test]
async fn a_batch_of_new_keys_is_one_request_per_64() {
    let database = Database::test_server().await;
    let service = Service::start(&database).await;
    let batch = |count: usize| v1::BatchValidateKeysRequest {
        requests: (0..count)
            .map(|_| v1::ValidateKeyRequest { key: strange_key(), required_scopes: owned(&[]) })
            .collect(),
    };
    for (keys, requests) in [(1, 1), (64, 1), (65, 2), (1_000, 16)] {
        let before = database.server().counters();
        service.validation().batch_validate_keys(batch(keys)).await.unwrap();
        let after = database.server().counters();
        assert_eq!(after.requests - before.requests, requests, "{keys} keys");
    }
}

#[tokio::test]
async fn fifteen_idle_seconds_cost_nothing_and_break_nothing() {
    let database = Database::test_server().await;
    let service = Service::start(&database).await;
    let (key, _) = service.key(&service.tenant("Acme").await, &[]).await;

    let before = database.server().counters();
    database.server().advance(Duration::from_secs(15));
    assert_eq!(service.validate(&key).await.unwrap().verdict(), v1::Verdict::Valid);
    let after = database.server().counters();
    assert_eq!(after.requests - before.requests, 1);
    assert_eq!(after.connections, before.connections);

    // Longer, so that the server ends the connection: still no error, still one request that counts.
    database.server().close_idle_connections().await;
    assert_eq!(service.validate(&strange_key()).await.unwrap().verdict(), v1::Verdict::Unknown);
    assert_eq!(database.server().counters().statements - after.statements, 1);
}

/// On a server with a clock of its own, where idle streams and connections end when it wants them to. Without one
/// there is nothing to wait for: the test server's clock is moved by the test above.
#[tokio::test]
async fn fifteen_idle_seconds_on_a_real_server() {
    let Some(database) = Database::real() else { return };
    let service = Service::start(&database).await;
    let (key, _) = service.key(&service.tenant("Acme").await, &[]).await;
    let idle = tokio::time::timeout(Duration::from_secs(15), std::future::pending::<()>());
    assert!(idle.await.is_err());
    assert_eq!(service.validate(&key).await.unwrap().verdict(), v1::Verdict::Valid);
    assert_eq!(service.validate(&strange_key()).await.unwrap().verdict(), v1::Verdict::Unknown);
}

#[tokio::test]
async fn an_administrative_change_is_one_request() {
    let database = Database::test_server().await;
    let service = Service::start(&database).await;
    let tenant = service.tenant("Acme").await;
    let before = database.server().counters();
    let (_, key_id) = service.key(&tenant, &["a"]).await;
    service.revoke(&key_id).await;
    assert_eq!(database.server().counters().requests - before.requests, 2);
    assert_eq!(database.server().counters().open_streams, 0);
}
