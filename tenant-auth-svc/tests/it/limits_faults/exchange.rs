//! Exchanges that fail, are not answered, or whose answer is lost.

use std::time::Duration;

use tenant_auth_proto::v1::{DecidedBy, OutagePolicy, Verdict};
use tenant_auth_testkit::Fault;

use super::{EXCHANGE, LimitedTenant, assert_undecided, decided_by};
use crate::harness::limits::{consume, consumption, limit_client, per_day};

#[tokio::test]
async fn refused_writes_leave_cold_limit_undecided_and_held_lease_usable() {
    let limited = LimitedTenant::start(per_day(100_000), OutagePolicy::Closed).await;
    limited.database.server().faults().set_writes(Fault::blocked());
    assert_undecided(limited.consume(1).await);
    limited.database.server().faults().clear();
    let first = limited.consume_after_outage(1).await;
    assert_eq!(first.verdict(), Verdict::Valid);

    limited.database.server().faults().set_writes(Fault::blocked());
    let (taken, answer) = limited.drain().await;
    assert_undecided(answer);
    assert!((300..=400).contains(&taken), "a lease is a 256th of the quota: {taken}");
    limited.database.server().faults().clear();
    limited.consume_after_outage(1).await;
    assert_eq!(limited.used_after_stop().await, 2 + i64::try_from(taken).unwrap());
}

#[tokio::test]
async fn hanging_database_does_not_delay_decisions_from_lease() {
    for fault in [Fault::Hang, Fault::HangAfterExecute] {
        let limited = LimitedTenant::start(per_day(100_000), OutagePolicy::Closed).await;
        limited.consume(1).await.unwrap();
        limited.database.server().faults().set_writes(fault);
        // More than half of the lease: an exchange is under way.
        for _ in 0..210 {
            assert_eq!(limited.consume(1).await.unwrap().verdict(), Verdict::Valid);
        }
        limited.database.server().wait_for(|counters| counters.open_requests > 0).await;
        assert_eq!(limited.consume(1).await.unwrap().verdict(), Verdict::Valid);
        limited.database.server().faults().clear();
        limited.consume_after_outage(300).await;
        assert_eq!(limited.used_after_stop().await, 1 + 211 + 300);
    }
}

#[tokio::test]
async fn garbage_is_no_decision_and_counts_nothing_twice() {
    let limited = LimitedTenant::start(per_day(10), OutagePolicy::Closed).await;
    let mut admitted = 0;
    for fault in [Fault::html_ok(), Fault::TruncatedJson, Fault::MissingRows, Fault::binary_error()] {
        limited.database.server().faults().set_where(EXCHANGE, u64::MAX, fault.clone());
        assert_undecided(limited.consume(2).await);
        limited.database.server().faults().clear();
        let response = limited.consume_after_outage(2).await;
        assert_eq!(response.verdict(), Verdict::Valid, "{fault:?}");
        admitted += 2;
    }
    assert_eq!(limited.consume(2).await.unwrap().verdict(), Verdict::Valid);
    assert_eq!(limited.consume(1).await.unwrap().verdict(), Verdict::QuotaExceeded);
    assert_eq!(limited.used_after_stop().await, admitted + 2);
}

#[tokio::test]
async fn exchange_whose_answer_is_lost_is_repeated_and_counts_once() {
    let limited = LimitedTenant::start(per_day(1_000), OutagePolicy::Closed).await;
    let faults = [Fault::ResetAfterCommit, Fault::ResetMidBody, Fault::TruncatedJson, Fault::MissingRows];
    let mut admitted = 0;
    for (number, fault) in faults.into_iter().enumerate() {
        for lost in 1..=3 {
            limited.database.server().faults().set_where(EXCHANGE, lost, fault.clone());
            let mut request = consumption(&limited.key, &[("requests", 7)]);
            request.consume_id = format!("id-{number}-{lost}");
            let deadline = tokio::time::Instant::now() + super::WAIT_TIMEOUT;
            // Repeated as callers do.
            let response = loop {
                match limit_client(&limited.service).consume(request.clone()).await {
                    Ok(response) => break response.into_inner(),
                    Err(status) => assert!(tokio::time::Instant::now() < deadline, "{status:?}"),
                }
            };
            assert_eq!(response.verdict(), Verdict::Valid, "{fault:?}");
            admitted += 7;
            limited.database.server().faults().clear();
        }
    }
    assert_eq!(limited.used_after_stop().await, admitted);
}

/// The lease of the first exchange has expired in the meantime, so that the database no longer recognises it.
#[tokio::test]
async fn exchange_that_is_repeated_late_gives_nothing_back_twice() {
    let limited = LimitedTenant::start(per_day(1_000), OutagePolicy::LocalShare).await;
    let second = limited.second_replica().await;
    limited.consume(1).await.unwrap();
    assert_eq!(consume(&second, &limited.key, 800).await.unwrap().verdict(), Verdict::Valid);
    // The second replica needs what the first one holds, which gives it back, and gets no answer.
    assert_eq!(consume(&second, &limited.key, 190).await.unwrap().verdict(), Verdict::QuotaExceeded);
    limited.database.server().faults().set_where(EXCHANGE, u64::MAX, Fault::ResetAfterCommit);
    limited.service.poll_feed().await;
    let failures = || limited.service.running.limits().counts().failed_exchanges();
    let deadline = tokio::time::Instant::now() + super::WAIT_TIMEOUT;
    while failures() == 0 {
        assert!(tokio::time::Instant::now() < deadline, "the first replica gives back what it does not need");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    limited.clock.advance(Duration::from_secs(11 * 60));
    limited.database.server().faults().clear();
    let late = limited.consume_after_outage(1).await;
    let mut admitted = 801 + i64::from(late.verdict() == Verdict::Valid);
    for replica in [&limited.service, &second] {
        for _ in 0..300 {
            let response = consume(replica, &limited.key, 1).await;
            admitted += i64::from(response.is_ok_and(|response| response.verdict() == Verdict::Valid));
        }
    }
    assert!(admitted <= 1_000, "{admitted}");
}

#[tokio::test]
async fn caller_that_goes_away_while_it_waits_takes_nothing() {
    let limited = LimitedTenant::start(per_day(10), OutagePolicy::Closed).await;
    limited.database.server().faults().set_writes(Fault::Hang);
    let (mut client, request) =
        (limit_client(&limited.service), consumption(&limited.key, &[("requests", 3)]));
    let caller = tokio::spawn(async move { client.consume(request).await });
    limited.database.server().wait_for(|counters| counters.open_requests > 0).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    limited.database.server().faults().clear();
    let response = limited.consume_after_outage(10).await;
    assert_eq!(decided_by(&response).0, Verdict::Valid, "nothing was taken before");
    assert_ne!(decided_by(&response).1, DecidedBy::OutagePolicy);
    assert_eq!(limited.used_after_stop().await, 10);
}
