//! Several replicas share a limit.

use tenant_auth_proto::v1::{OutagePolicy, Verdict};

use super::{LimitedTenant, with_policy};
use crate::harness::limits::{consume, limit_state, per_day, store_limit};

#[tokio::test]
async fn replicas_that_race_for_the_last_token_admit_one_request() {
    let limited = LimitedTenant::start(per_day(1), OutagePolicy::Closed).await;
    let second = limited.second_replica().await;
    for round in 0..20 {
        let tenant = limited.service.create_tenant(&format!("Racer {round}")).await;
        let (key, _) = limited.service.issue_key(&tenant, &[]).await;
        store_limit(&limited.service, with_policy(&tenant, per_day(1), OutagePolicy::Closed)).await;
        let (one, two) = tokio::join!(consume(&limited.service, &key, 1), consume(&second, &key, 1));
        let mut verdicts = [one.unwrap().verdict(), two.unwrap().verdict()];
        verdicts.sort_unstable();
        assert_eq!(verdicts, [Verdict::Valid, Verdict::QuotaExceeded], "round {round}");
    }
}

#[tokio::test]
async fn stopped_replica_gives_its_leases_back() {
    let limited = LimitedTenant::start(per_day(100_000), OutagePolicy::Closed).await;
    let second = limited.second_replica().await;
    limited.consume(5).await.unwrap();
    let before = limit_state(&second, &limited.tenant).await.remove(0);
    assert!(before.leased > 100, "{before:?}");
    limited.service.running.stop().await;
    let after = limit_state(&second, &limited.tenant).await.remove(0);
    assert_eq!(
        (after.used, after.leased, after.unaccounted, after.remaining),
        (5, 0, 0, 99_995),
        "{after:?}"
    );
    let all = consume(&second, &limited.key, 99_995).await.unwrap();
    assert_eq!(all.verdict(), Verdict::Valid, "nothing is lost");
}

#[tokio::test]
async fn replica_that_lacks_something_gets_what_another_one_holds() {
    let limited = LimitedTenant::start(per_day(1_000), OutagePolicy::LocalShare).await;
    let second = limited.second_replica().await;
    limited.consume(1).await.unwrap();
    let deadline = std::time::Instant::now() + super::WAIT_TIMEOUT;
    while consume(&second, &limited.key, 999).await.unwrap().verdict() != Verdict::Valid {
        assert!(std::time::Instant::now() < deadline, "the first replica gives back what it does not need");
        limited.service.poll_feed().await;
        limited.clock.advance(std::time::Duration::from_secs(9));
    }
    assert_eq!(limited.consume(1).await.unwrap().verdict(), Verdict::QuotaExceeded);
}
