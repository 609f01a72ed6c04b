//! Local limiters in several clients.

use futures::future::join_all;
use tenant_auth_client::{Client, LocalLimiter, NotAdmitted, PresentedKey, Verdict};

use crate::harness::limits::{copy, limited, take_rest};
use crate::harness::{WAIT_TIMEOUT, until};

const CONCURRENT_CALLERS: usize = 8;

/// Admits with several callers at once until the limit denies, and returns how many were admitted.
async fn admit_all(limiter: &LocalLimiter, key: &PresentedKey) -> i64 {
    let callers = (0..CONCURRENT_CALLERS).map(|_| async {
        let mut admitted = 0;
        loop {
            match limiter.admit(key, &["orders:read"], 1).await {
                Ok(principal) => {
                    assert_eq!(principal.tenant_id(), "acme");
                    admitted += 1;
                }
                Err(NotAdmitted::Denied(denied)) => {
                    assert_eq!(denied.verdict(), Verdict::QuotaExceeded);
                    return admitted;
                }
                Err(NotAdmitted::Undecided(error)) => assert_eq!(error.to_string(), "", "a decision"),
            }
        }
    });
    join_all(callers).await.into_iter().sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_limiters_admit_no_more_than_the_limit_and_give_the_rest_back() {
    let (service, key) = limited(5_000).await;
    let client = Client::builder(service.endpoint()).timeout(WAIT_TIMEOUT).connect().await.unwrap();
    let limiters =
        [service.client.clone(), client].map(|client| LocalLimiter::start(client, "requests").unwrap());
    let admitted: i64 =
        join_all(limiters.iter().map(|limiter| admit_all(limiter, &key))).await.into_iter().sum();
    assert!(admitted <= 5_000, "{admitted}");
    join_all(limiters.map(LocalLimiter::close)).await;
    // What was held is free again: all of the limit is used in the end, and no more.
    let mut rest = 0;
    until(async || {
        rest += take_rest(&service.client, &key).await;
        admitted + rest >= 5_000
    })
    .await;
    assert_eq!(admitted + rest, 5_000);
}

#[tokio::test]
async fn revoked_key_is_not_admitted_from_a_chunk() {
    let (service, key) = limited(5_000).await;
    let limiter = LocalLimiter::start(service.client.clone(), "requests").unwrap();
    let mut key_id = String::new();
    for _ in 0..100 {
        key_id = limiter.admit(&key, &[], 1).await.unwrap().key_id().to_owned();
    }
    service.admin().revoke_key(&key_id, "test").await.unwrap();
    let outcome = limiter.admit(&copy(&key), &[], 1).await;
    let Err(NotAdmitted::Denied(denied)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(denied.verdict(), Verdict::Revoked);
    limiter.close().await;
}
