//! Two replicas on one database.

use std::time::Duration;

use tenant_auth_proto::v1;
use tenant_auth_svc::domain::clock::ManualClock;

use crate::harness::{
    NOW, TestDatabase, TestService,
    limits::{consume, count_admitted, limit_of, per_day, service_with_key_at, store_limit},
};

#[tokio::test]
async fn two_replicas_together_admit_the_amount_and_not_one_more() {
    let (database, clock) = (TestDatabase::test_server().await, ManualClock::at(NOW));
    let (first, tenant, key, _) = service_with_key_at(&database, &clock).await;
    let second = TestService::start_at(&database, &clock).await;
    store_limit(&first, limit_of(&tenant, "requests.daily", per_day(300))).await;
    let (one, two) = tokio::join!(count_admitted(&first, &key, 200), count_admitted(&second, &key, 80));
    assert!(one + two <= 300, "{one} + {two}");
    // What one replica holds and does not need is given back when the other one lacks it.
    let mut admitted = one + two;
    for _ in 0..200 {
        if consume(&first, &key, 1).await.unwrap().verdict() == v1::Verdict::Valid {
            admitted += 1;
            continue;
        }
        if admitted == 300 {
            break;
        }
        clock.advance(Duration::from_secs(1));
        first.poll_feed().await;
        second.poll_feed().await;
    }
    assert_eq!(admitted, 300);
    assert_eq!(count_admitted(&second, &key, 5).await, 0);
}
