//! What the database is asked, counted by the database.

use std::time::Duration;

use tenant_auth_proto::v1;

use crate::harness::{Database, LOOKUP, Service, owned, strange_key};

/// Keys that are not in memory.
const MISSES: u64 = 10;

/// How often keys were looked up so far.
fn lookups(database: &Database) -> u64 {
    database.server().requests_with(LOOKUP)
}

#[tokio::test]
async fn a_miss_is_one_request_and_no_new_connection() {
    let database = Database::test_server().await;
    let service = Service::start(&database).await;
    let tenant = service.tenant("Acme").await;
    let (key, _) = service.key(&tenant, &[]).await;

    let (lookups, asked, before) = (lookups(&database), database.asked(), database.server().counters());
    assert_eq!(service.validate(&key).await.unwrap().verdict(), v1::Verdict::Valid);
    for _ in 1..MISSES {
        assert_eq!(service.validate(&strange_key()).await.unwrap().verdict(), v1::Verdict::Unknown);
    }
    let after = database.server().counters();
    assert_eq!(self::lookups(&database) - lookups, MISSES, "one each");
    assert_eq!(database.asked() - asked, MISSES, "and nothing else");
    // On a busy machine, the next call may come before the connection of the one before it is back, and open a second one.
    assert!(after.connections - before.connections <= 1, "{before:?} {after:?}");
    assert_eq!(after.open_streams, 0, "nothing is left open on the server");

    // From memory now: nothing is asked at all.
    for _ in 0..10 {
        service.validate(&key).await.unwrap();
    }
    assert_eq!(database.asked() - asked, MISSES);
}

#[tokio::test]
async fn a_key_that_cannot_be_one_is_refused_without_asking() {
    let database = Database::test_server().await;
    let service = Service::start(&database).await;
    let before = database.asked();
    for key in
        ["short", "ta_tooshort", &format!("ta_{}", "a".repeat(36)), "with a space in it", &"x".repeat(300)]
    {
        let response = service.validate(key).await.unwrap();
        assert_eq!(response.verdict(), v1::Verdict::Malformed, "{key}");
    }
    assert_eq!(database.asked(), before);
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
        let (before, asked) = (lookups(&database), database.asked());
        service.validation().batch_validate_keys(batch(keys)).await.unwrap();
        assert_eq!(lookups(&database) - before, requests, "{keys} keys");
        assert_eq!(database.asked() - asked, requests, "{keys} keys");
    }
}

#[tokio::test]
async fn fifteen_idle_seconds_cost_nothing_and_break_nothing() {
    let database = Database::test_server().await;
    let service = Service::start(&database).await;
    let (key, _) = service.key(&service.tenant("Acme").await, &[]).await;

    let (before, asked) = (database.server().counters(), database.asked());
    database.server().advance(Duration::from_secs(15));
    assert_eq!(service.validate(&key).await.unwrap().verdict(), v1::Verdict::Valid);
    let after = database.server().counters();
    assert_eq!(database.asked() - asked, 1);
    assert!(after.connections - before.connections <= 1, "{before:?} {after:?}");

    // Longer, so that the server ends the connection: still no error. The request that met the end may be sent once more.
    let before = lookups(&database);
    database.server().close_idle_connections().await;
    assert_eq!(service.validate(&strange_key()).await.unwrap().verdict(), v1::Verdict::Unknown);
    assert!((1..=2).contains(&(lookups(&database) - before)));
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
    let before = database.asked();
    let (_, key_id) = service.key(&tenant, &["a"]).await;
    service.revoke(&key_id).await;
    assert_eq!(database.asked() - before, 2);
    assert_eq!(database.server().counters().open_streams, 0);
}
