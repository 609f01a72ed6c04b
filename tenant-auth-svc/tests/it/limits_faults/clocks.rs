//! Clocks that are set while a window ends.

use std::{sync::Arc, time::Duration};

use tenant_auth_proto::v1::{OutagePolicy, Verdict};
use tenant_auth_svc::domain::clock::{Clock as _, ManualClock, SharedClock, UnixMillis};

use super::{per_hour, with_policy};
use crate::harness::{
    TestDatabase, TestService,
    limits::{consume, store_limit},
};

const HOUR: i64 = 3_600_000;

/// Takes 1 at a time until a denial lasts. Returns how often it was admitted.
async fn drain(service: &TestService, clocks: [&ManualClock; 2], key: &str) -> i64 {
    let (mut taken, mut denied) = (0, 0);
    // A replica that was refused asks again after a while.
    while denied < 4 {
        let response = consume(service, key, 1).await.unwrap();
        if response.verdict() == Verdict::Valid {
            taken += 1;
        } else {
            assert_eq!(response.verdict(), Verdict::QuotaExceeded);
            denied += 1;
            clocks.iter().for_each(|clock| clock.advance(Duration::from_secs(9)));
        }
    }
    taken
}

#[tokio::test]
async fn wall_clock_of_a_replica_that_is_set_at_the_end_of_a_window_admits_no_more() {
    for policy in [OutagePolicy::Closed, OutagePolicy::LocalShare] {
        for step in [HOUR, -HOUR] {
            // Two minutes before the hour.
            let start = UnixMillis(1_790_000_000_000 / HOUR * HOUR + 58 * 60_000);
            let (database, of_database, of_replica) =
                (TestDatabase::test_server().await, ManualClock::at(start), ManualClock::at(start));
            database.follow_clock(&of_database);
            let service =
                TestService::start_with(database.settings(), Arc::clone(&of_replica) as SharedClock).await;
            let tenant = service.create_tenant("Acme").await;
            let (key, _) = service.issue_key(&tenant, &[]).await;
            store_limit(&service, with_policy(&tenant, per_hour(100), policy)).await;
            service.poll_feed().await;
            for _ in 0..30 {
                assert_eq!(consume(&service, &key, 1).await.unwrap().verdict(), Verdict::Valid);
            }
            of_replica.jump_to(UnixMillis(of_replica.now().0 + step));
            let clocks = [&*of_database, &*of_replica];
            let taken = 30 + drain(&service, clocks, &key).await;
            assert!((95..=100).contains(&taken), "{policy:?}, a step of {step} ms: {taken}");
            assert!(of_database.now().0 < start.0 + 2 * 60_000, "the window has not ended");

            clocks.iter().for_each(|clock| clock.advance(Duration::from_secs(120)));
            let taken = drain(&service, clocks, &key).await;
            assert!((95..=100).contains(&taken), "{policy:?}, after a step of {step} ms: {taken}");
        }
    }
}
