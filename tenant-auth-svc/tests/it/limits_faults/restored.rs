//! A database that was restored from a backup: what replicas have seen counted is counted again.

use std::time::Duration;

use tenant_auth_proto::v1::{OutagePolicy, Verdict};

use super::{LimitedTenant, WAIT_TIMEOUT};
use crate::harness::{
    TestService,
    limits::{consume, per_day},
    replicas::{DETECTION_DELAY, accept_database},
};

/// Waits until a replica has made another exchange.
async fn until_exchanged(service: &TestService, before: u64) {
    let deadline = tokio::time::Instant::now() + WAIT_TIMEOUT;
    while service.running.limits().counts().exchanges() == before {
        assert!(tokio::time::Instant::now() < deadline, "the replica reports what it has seen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn restored_and_accepted_database_counts_what_replicas_have_seen_in_any_order() {
    for first_reports_first in [true, false] {
        let limited = LimitedTenant::start(per_day(1_000), OutagePolicy::Closed).await;
        let second = limited.second_replica().await;
        assert_eq!(consume(&second, &limited.key, 1).await.unwrap().verdict(), Verdict::Valid);
        let backup = limited.database.server().backup().unwrap();
        limited.service.create_tenant("After the backup").await;
        assert_eq!(limited.consume(600).await.unwrap().verdict(), Verdict::Valid);
        let replicas = [&limited.service, &second];
        for service in replicas {
            service.poll_feed().await;
        }

        limited.database.server().restore(&backup).await.unwrap();
        for service in replicas {
            let _ = service.running.feed().poll().await;
        }
        limited.clock.advance(DETECTION_DELAY);
        for service in replicas {
            assert!(service.running.feed().poll().await.is_err(), "the database is distrusted");
        }
        // The acceptance alone may make a replica report.
        let exchanges = |service: &TestService| service.running.limits().counts().exchanges();
        let before = [exchanges(&limited.service), exchanges(&second)];
        accept_database(&second).await;
        let order = if first_reports_first { [0, 1] } else { [1, 0] };
        for (service, before) in order.map(|at| (replicas[at], before[at])) {
            service.poll_feed().await;
            until_exchanged(service, before).await;
        }
        limited.clock.advance(Duration::from_secs(11));
        let mut admitted = 601;
        for _ in 0..100 {
            for service in replicas {
                let response = consume(service, &limited.key, 10).await.unwrap();
                admitted += i64::from(response.verdict() == Verdict::Valid) * 10;
            }
        }
        assert!((900..=1_000).contains(&admitted), "{admitted}");
    }
}
