//! Number of database requests per call, as counted by the database.

use std::time::Duration;

use tenant_auth_proto::v1;

use crate::harness::{LOOKUP, TestDatabase, TestService, owned, unknown_key};

/// Number of keys that are not cached.
const MISSES: u64 = 10;

/// Returns how many key lookups the database has seen so far.
fn lookup_count(database: &TestDatabase) -> u64 {
    database.server().requests_with(LOOKUP)
}

#[tokio::test]
async fn cache_miss_is_one_database_request_and_no_new_connection() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let (key, _) = service.issue_key(&tenant, &[]).await;

    let (lookups, requests_before, before) =
        (lookup_count(&database), database.caller_requests(), database.server().counters());
    assert_eq!(service.validate(&key).await.unwrap().verdict(), v1::Verdict::Valid);
    for _ in 1..MISSES {
        assert_eq!(service.validate(&unknown_key()).await.unwrap().verdict(), v1::Verdict::Unknown);
    }
    let after = database.server().counters();
    assert_eq!(lookup_count(&database) - lookups, MISSES, "one lookup per key");
    assert_eq!(database.caller_requests() - requests_before, MISSES, "no other requests");
    // On a busy machine, the next call may start before the previous call's connection is back in the pool,
    // and open a second one.
    assert!(after.connections - before.connections <= 1, "{before:?} {after:?}");
    assert_eq!(after.open_streams, 0, "no stream is left open on the server");

    // Now served from the cache, without any database request.
    for _ in 0..10 {
        service.validate(&key).await.unwrap();
    }
    assert_eq!(database.caller_requests() - requests_before, MISSES);
}

#[tokio::test]
async fn malformed_key_is_denied_without_database_request() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let before = database.caller_requests();
    for key in ["short", "ta_x", "ta_with a space", "with a space in it", "schlüssel", &"x".repeat(300)] {
        let response = service.validate(key).await.unwrap();
        assert_eq!(response.verdict(), v1::Verdict::Malformed, "{key}");
    }
    assert_eq!(database.caller_requests(), before);
}

#[tokio::test]
async fn batch_of_cold_keys_is_one_request_per_64() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let batch = |count: usize| v1::BatchValidateKeysRequest {
        requests: (0..count)
            .map(|_| v1::ValidateKeyRequest {
                key: unknown_key(),
                required_scopes: owned(&[]),
                ..Default::default()
            })
            .collect(),
    };
    for (keys, requests) in [(1, 1), (64, 1), (65, 2), (1_000, 16)] {
        let (before, requests_before) = (lookup_count(&database), database.caller_requests());
        service.validation().batch_validate_keys(batch(keys)).await.unwrap();
        assert_eq!(lookup_count(&database) - before, requests, "{keys} keys");
        assert_eq!(database.caller_requests() - requests_before, requests, "{keys} keys");
    }
}

#[tokio::test]
async fn idle_database_connection_survives_fifteen_seconds() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let (key, _) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;

    let (before, requests_before) = (database.server().counters(), database.caller_requests());
    database.server().advance(Duration::from_secs(15));
    assert_eq!(service.validate(&key).await.unwrap().verdict(), v1::Verdict::Valid);
    let after = database.server().counters();
    assert_eq!(database.caller_requests() - requests_before, 1);
    assert!(after.connections - before.connections <= 1, "{before:?} {after:?}");

    // A longer pause, so that the server closes the connection: still no error. The request that met the
    // close may be sent once more.
    let before = lookup_count(&database);
    database.server().close_idle_connections().await;
    assert_eq!(service.validate(&unknown_key()).await.unwrap().verdict(), v1::Verdict::Unknown);
    assert!((1..=2).contains(&(lookup_count(&database) - before)));
}

/// Runs on a server with its own clock, which closes idle streams and connections when it decides to. Without
/// such a server there is nothing to wait for: the test above moves the test server's clock.
#[tokio::test]
async fn idle_connection_to_real_server_survives_fifteen_seconds() {
    let Some(database) = TestDatabase::real() else { return };
    let service = TestService::start(&database).await;
    let (key, _) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;
    let idle = tokio::time::timeout(Duration::from_secs(15), std::future::pending::<()>());
    assert!(idle.await.is_err());
    assert_eq!(service.validate(&key).await.unwrap().verdict(), v1::Verdict::Valid);
    assert_eq!(service.validate(&unknown_key()).await.unwrap().verdict(), v1::Verdict::Unknown);
}

#[tokio::test]
async fn admin_change_is_one_database_request() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let before = database.caller_requests();
    let (_, key_id) = service.issue_key(&tenant, &["a"]).await;
    service.revoke_key(&key_id).await;
    assert_eq!(database.caller_requests() - before, 2);
    assert_eq!(database.server().counters().open_streams, 0);
}
