//! Windows, credits and rates, by an injected clock.

use std::{sync::Arc, time::Duration};

use tenant_auth_proto::v1;
use tenant_auth_svc::domain::clock::ManualClock;

use crate::harness::{
    NOW, TestDatabase, TestService,
    limits::{consume, count_admitted, credits, limit_of, per_day, rate, rolling, store_limit},
};

async fn start(rule: v1::limit::Rule) -> (TestService, Arc<ManualClock>, String, String, TestDatabase) {
    let database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    database.follow_clock(&clock);
    let service = TestService::start_at(&database, &clock).await;
    let tenant = service.create_tenant("Acme").await;
    let (key, _) = service.issue_key(&tenant, &[]).await;
    store_limit(&service, limit_of(&tenant, "requests", rule)).await;
    (service, clock, tenant, key, database)
}

#[tokio::test]
async fn calendar_window_starts_again_at_its_boundary() {
    let (service, clock, _, key, _database) = start(per_day(3)).await;
    assert_eq!(count_admitted(&service, &key, 5).await, 3);
    let denied = consume(&service, &key, 1).await.unwrap();
    let retry_after: Duration = denied.limits[0].retry_after.unwrap().try_into().unwrap();
    clock.advance(retry_after - Duration::from_millis(1));
    assert_eq!(count_admitted(&service, &key, 2).await, 0);
    clock.advance(Duration::from_millis(1));
    let first = consume(&service, &key, 1).await.unwrap();
    assert_eq!(first.verdict(), v1::Verdict::Valid);
    assert!(first.limits[0].window_start.unwrap().seconds > denied.limits[0].window_start.unwrap().seconds);
    assert_eq!(count_admitted(&service, &key, 5).await, 2);
}

#[tokio::test]
async fn rolling_window_frees_amounts_one_length_after_they_were_taken() {
    let (service, clock, _, key, _database) = start(rolling(10, 160)).await;
    assert_eq!(count_admitted(&service, &key, 4).await, 4);
    clock.advance(Duration::from_secs(100));
    assert_eq!(count_admitted(&service, &key, 10).await, 6);
    // One length and one bucket of a sixteenth after the first ones.
    clock.advance(Duration::from_secs(59));
    assert_eq!(
        count_admitted(&service, &key, 3).await,
        0,
        "no interval of the length has more than the amount"
    );
    clock.advance(Duration::from_secs(12));
    assert_eq!(count_admitted(&service, &key, 10).await, 4);
}

#[tokio::test]
async fn credits_are_used_up_and_added() {
    let (service, clock, tenant, key, _database) = start(credits(3)).await;
    assert_eq!(count_admitted(&service, &key, 5).await, 3);
    clock.advance(Duration::from_secs(40 * 86_400));
    assert_eq!(count_admitted(&service, &key, 2).await, 0, "credits have no window");
    let request = v1::AddCreditsRequest {
        subject: limit_of(&tenant, "x", credits(1)).subject,
        name: "requests".to_owned(),
        amount: 2,
        adjustment_id: "invoice-1".to_owned(),
        reason: "paid".to_owned(),
    };
    service.admin().add_credits(request.clone()).await.unwrap();
    let again = service.admin().add_credits(request).await.unwrap().into_inner();
    assert!(again.already_added);
    service.poll_feed().await;
    assert_eq!(count_admitted(&service, &key, 5).await, 2);
}

#[tokio::test]
async fn refill_is_due_at_the_start_of_the_window() {
    let rule = v1::limit::Rule::Credits(v1::Credits {
        initial: 1,
        refill: Some(v1::CreditRefill { amount: 5, every: v1::CalendarWindow::Hour.into(), max_balance: 7 }),
    });
    let (service, clock, _, key, _database) = start(rule).await;
    assert_eq!(count_admitted(&service, &key, 3).await, 1);
    let denied = consume(&service, &key, 1).await.unwrap();
    let reset_after: Duration = denied.limits[0].reset_after.unwrap().try_into().unwrap();
    assert!(reset_after <= Duration::from_secs(3_600));
    clock.advance(reset_after);
    assert_eq!(count_admitted(&service, &key, 7).await, 5);
    clock.advance(Duration::from_secs(5 * 3_600));
    assert_eq!(
        count_admitted(&service, &key, 10).await,
        7,
        "a refill raises the balance at most to the maximum"
    );
}

#[tokio::test]
async fn rate_admits_its_burst_and_what_flows_in() {
    let (service, clock, _, key, _database) = start(rate(10, 1, 20)).await;
    let mut admitted = count_admitted(&service, &key, 30).await;
    assert_eq!(admitted, 20);
    let denied = consume(&service, &key, 1).await.unwrap();
    assert_eq!(denied.verdict(), v1::Verdict::RateLimited);
    assert_eq!(denied.limits[0].limit, 20);
    assert_eq!(denied.limits[0].window.unwrap().seconds, 2, "an empty bucket of 20 fills in 2 s at 10/s");
    assert!(denied.limits[0].retry_after.is_some());
    let mut most = 20;
    for _ in 0..40 {
        clock.advance(Duration::from_millis(250));
        admitted += count_admitted(&service, &key, 5).await;
        most += 3;
        assert!(admitted <= most, "{admitted} of {most}");
    }
    // Ten seconds at 10/s.
    assert!((100..=120).contains(&admitted), "{admitted}");
}
