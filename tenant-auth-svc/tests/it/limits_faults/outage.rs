//! Outages: what is held is spent, then the policy decides.

use std::time::Duration;

use tenant_auth_proto::v1::{DecidedBy, OutagePolicy, Verdict};
use tenant_auth_svc::domain::clock::{Clock as _, UnixMillis};
use tonic::Request;

use super::{LimitedTenant, assert_undecided, decided_by, per_hour};
use crate::harness::limits::{consumption, limit_client, per_day};

const HOUR: i64 = 3_600_000;

#[tokio::test]
async fn closed_limit_spends_its_lease_and_then_does_not_decide() {
    let mut limited = LimitedTenant::start(per_day(100_000), OutagePolicy::Closed).await;
    limited.consume(1).await.unwrap();
    limited.database.server_mut().stop().await;
    let mut taken = 0;
    let answer = loop {
        match limited.consume(1).await {
            Ok(response) => {
                assert_eq!(response.verdict(), Verdict::Valid);
                taken += 1;
            }
            failed => break failed,
        }
    };
    assert_undecided(answer);
    assert!((300..=400).contains(&taken), "{taken}");
    limited.database.server_mut().start_again().unwrap();
    limited.consume_after_outage(1).await;
    assert_eq!(limited.used_after_stop().await, taken + 2);
}

#[tokio::test]
async fn open_limit_admits_and_counts_afterwards_as_far_as_it_permits() {
    let mut limited = LimitedTenant::start(per_day(10), OutagePolicy::Open).await;
    assert_eq!(decided_by(&limited.consume(1).await.unwrap()), (Verdict::Valid, DecidedBy::Database));
    limited.database.server_mut().stop().await;
    for _ in 0..5 {
        assert_eq!(decided_by(&limited.consume(1).await.unwrap()), (Verdict::Valid, DecidedBy::OutagePolicy));
    }
    limited.database.server_mut().start_again().unwrap();
    limited.until_state(|state| state.used + state.leased == 6).await;
    assert_eq!(limited.consume(4).await.unwrap().verdict(), Verdict::Valid);
    assert_eq!(limited.consume(1).await.unwrap().verdict(), Verdict::QuotaExceeded);

    limited.database.server_mut().stop().await;
    limited.clock.advance(Duration::from_secs(60));
    for _ in 0..20 {
        assert_eq!(limited.consume(1).await.unwrap().verdict(), Verdict::Valid, "the limit is not checked");
    }
    limited.database.server_mut().start_again().unwrap();
    limited.until_state(|state| state.remaining == 0).await;
    assert_eq!(limited.used_after_stop().await, 10, "the counter does not exceed the limit");
}

#[tokio::test]
async fn open_limit_counts_an_id_once_however_often_it_was_sent() {
    let mut limited = LimitedTenant::start(per_day(1_000), OutagePolicy::Open).await;
    limited.consume(1).await.unwrap();
    limited.database.server_mut().stop().await;
    let mut consumption = consumption(&limited.key, &[("requests", 50)]);
    consumption.consume_id = "order-1".to_owned();
    for _ in 0..4 {
        let mut request = Request::new(consumption.clone());
        request.set_timeout(Duration::from_millis(300));
        limit_client(&limited.service).consume(request).await.expect_err("nothing is committed");
    }
    limited.database.server_mut().start_again().unwrap();
    limited.consume_after_outage(1).await;
    let answer = limit_client(&limited.service).consume(consumption).await.unwrap().into_inner();
    assert_eq!(answer.verdict(), Verdict::Valid);
    limited.until_state(|state| state.used + state.leased >= 52).await;
    assert_eq!(limited.used_after_stop().await, 52);
}

#[tokio::test]
async fn local_share_holds_an_eighth_and_as_much_of_the_next_window() {
    let mut limited = LimitedTenant::start(per_hour(80), OutagePolicy::LocalShare).await;
    limited.consume(1).await.unwrap();
    let leases =
        || limited.database.server().query("SELECT amount FROM limit_leases ORDER BY window_start").unwrap();
    let deadline = std::time::Instant::now() + super::WAIT_TIMEOUT;
    while leases().len() < 2 {
        assert!(std::time::Instant::now() < deadline, "the next window is held in advance");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let amounts: Vec<_> = leases().iter().map(|row| row[0]["value"].as_str().unwrap().to_owned()).collect();
    println!("leases of the current and of the next window: {amounts:?}");

    limited.database.server_mut().stop().await;
    let (taken, answer) = limited.drain().await;
    assert_undecided(answer);
    assert!((9..=11).contains(&taken), "{taken}");
    let next_hour = UnixMillis((limited.clock.now().0 / HOUR + 1) * HOUR);
    limited.clock.advance(next_hour.since(limited.clock.now()));
    let first = limited.consume(1).await.unwrap();
    assert_eq!(decided_by(&first), (Verdict::Valid, DecidedBy::LocalShare));
    assert_eq!(first.limits[0].window_start.unwrap().seconds, next_hour.0 / 1_000);
    let (taken_next, answer) = limited.drain().await;
    assert_undecided(answer);
    assert!((6..=9).contains(&taken_next), "{taken_next}");

    // Nobody has asked during the whole window after that: what was held of the former one is not used.
    limited.clock.advance(Duration::from_secs(3 * 60 * 60));
    assert_undecided(limited.consume(1).await);
    limited.database.server_mut().start_again().unwrap();
    limited.consume_after_outage(1).await;
}

#[tokio::test]
async fn advance_lease_of_a_window_that_nobody_used_is_not_spent_later() {
    let mut limited = LimitedTenant::start(per_hour(80), OutagePolicy::LocalShare).await;
    limited.consume(1).await.unwrap();
    let count = "SELECT 1 FROM limit_leases";
    let deadline = std::time::Instant::now() + super::WAIT_TIMEOUT;
    while limited.database.server().query(count).unwrap().len() < 2 {
        assert!(std::time::Instant::now() < deadline, "the next window is held in advance");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    limited.database.server_mut().stop().await;
    limited.clock.advance(Duration::from_secs(3 * 60 * 60));
    assert_undecided(limited.consume(1).await);
}
