//! A service that reads from a read replica with a URL of its own, and writes to the primary.

mod faults;
mod real;

use std::{sync::Arc, time::Duration};

use tenant_auth_proto::v1::{self, Source};
use tenant_auth_svc::domain::clock::{Clock as _, ManualClock, SharedClock, SystemClock};
use tenant_auth_testkit::HranaServer;

use crate::harness::{
    LOOKUP, NOW, READ_FEED, TOKEN, TestDatabase, TestService, http_request, outcome,
    read_url::{POLL_STEP, TwoUrls, two_urls},
    scrape::Scrape,
    unknown_key,
    usage::{record_usage, usage_event, usage_total},
};

#[tokio::test]
async fn reads_go_to_the_read_url_and_writes_to_the_primary() {
    let urls = TwoUrls::start().await;
    let (key, _) = urls.cold_key().await;
    urls.step().await;
    let before = urls.requests_with(LOOKUP);
    assert_eq!(urls.outcome(&key).await, "VERDICT_VALID");
    assert_eq!(urls.outcome(&unknown_key()).await, "VERDICT_UNKNOWN");
    assert_eq!(urls.requests_with(LOOKUP), [before[0] + 2, before[1]], "look-ups");

    let lists = ["FROM api_keys", "FROM usage_totals"];
    let before = lists.map(|part| urls.requests_with(part));
    assert_eq!(urls.listed_keys().await.len(), 1);
    assert_eq!(usage_total(&urls.here, &urls.tenant, "calls").await, 0);
    for (part, before) in lists.into_iter().zip(before) {
        let now = urls.requests_with(part);
        assert!(now[0] > before[0] && now[1] == before[1], "{part}: {before:?}, then {now:?}");
    }

    let (issued, key_id) = urls.here.issue_key(&urls.tenant, &[]).await;
    urls.here.revoke_key(&key_id).await;
    assert_eq!(urls.outcome(&issued).await, "VERDICT_REVOKED");
    assert_eq!(urls.read_replica.requests_with("BEGIN IMMEDIATE"), 0, "no write reaches the read replica");
}

#[tokio::test]
async fn warm_up_reads_from_the_read_url() {
    let primary = TestDatabase::test_server().await;
    let first = TestService::start(&primary).await;
    let (key, _) = first.issue_key(&first.create_tenant("Acme").await, &[]).await;
    assert_eq!(outcome(&first.validate(&key).await), "VERDICT_VALID");
    first.running.flush_pending_writes().await.unwrap();
    let read_replica =
        HranaServer::builder().token(TOKEN).replica_of(primary.server()).start().await.unwrap();
    let mut config = two_urls(primary.settings(), &read_replica.url());
    config.cache.feed_interval = Some(Duration::from_millis(250));
    let warm_up = "ORDER BY last_used_at DESC";
    let before = [warm_up, LOOKUP].map(|part| primary.server().requests_with(part));
    let mut here = TestService::start_configured(config, SystemClock::shared()).await;
    here.running.wait_until_ready().await.unwrap();
    here.running.wait_until_preloaded().await;
    assert_eq!(read_replica.requests_with(warm_up), 1);
    assert_eq!(outcome(&here.validate(&key).await), "VERDICT_VALID");
    assert_eq!(read_replica.requests_with(LOOKUP), 0, "the key is cached");
    assert_eq!([warm_up, LOOKUP].map(|part| primary.server().requests_with(part)), before);
}

/// An answer counts as of the last read of the primary's log, and not as of the read that brought it.
#[tokio::test]
async fn answer_of_the_read_replica_is_dated_by_the_last_comparison_with_the_primary() {
    let urls = TwoUrls::start().await;
    let (key, _) = urls.cold_key().await;
    let polls = || urls.primary.server().requests_with(READ_FEED);
    let before = polls();
    while polls() == before {
        urls.step().await;
    }
    urls.clock.advance(Duration::from_millis(600));
    assert_eq!(urls.provenance(&key).await, (Source::Database, 600));
    urls.clock.advance(Duration::from_millis(150));
    assert_eq!(urls.provenance(&key).await, (Source::Fresh, 750));
}

/// The primary answers at least one poll a second, however well the read replica follows, and few more.
#[tokio::test]
async fn primary_is_compared_once_a_second() {
    let urls = TwoUrls::start().await;
    let before = urls.requests_with(READ_FEED);
    for _ in 0..40 {
        urls.read_replica.catch_up().await.unwrap();
        urls.step().await;
    }
    let now = urls.requests_with(READ_FEED);
    // The other service is not polled meanwhile.
    let (replica, primary) = (now[0] - before[0], now[1] - before[1]);
    let seconds = (40 * POLL_STEP).as_secs();
    assert_eq!(replica + primary, 40);
    assert!((seconds - 1..=seconds * 3 / 2).contains(&primary), "{primary} in {seconds} s");
}

#[tokio::test]
async fn own_changes_are_answered_at_once_while_the_read_replica_lags() {
    let urls = TwoUrls::start().await;
    let here = &urls.here;
    let (key, key_id) = here.issue_key(&urls.tenant, &["a"]).await;
    assert_eq!(urls.outcome(&key).await, "VERDICT_VALID");
    let rotate = v1::RotateKeyRequest { key_id, ..Default::default() };
    let rotated = here.admin().rotate_key(rotate).await.unwrap().into_inner();
    assert_eq!(urls.outcome(&rotated.plaintext).await, "VERDICT_VALID");
    // The read replica lacks the rotation: the primary answers.
    assert_eq!(urls.outcome(&key).await, "VERDICT_VALID", "during the overlap");
    let successor = rotated.key.unwrap().key_id;
    here.revoke_key(&successor).await;
    for _ in 0..20 {
        assert_eq!(urls.outcome(&rotated.plaintext).await, "VERDICT_REVOKED");
        urls.clock.advance(Duration::from_millis(500));
        let _ = here.running.feed().poll().await;
    }

    let tenant_id = urls.tenant.clone();
    let suspend = v1::SuspendTenantRequest { tenant_id: tenant_id.clone(), reason: "unpaid".to_owned() };
    here.admin().suspend_tenant(suspend).await.unwrap();
    assert_eq!(urls.outcome(&key).await, "VERDICT_TENANT_SUSPENDED");
    here.admin().resume_tenant(v1::ResumeTenantRequest { tenant_id, ..Default::default() }).await.unwrap();
    assert_eq!(urls.outcome(&key).await, "VERDICT_VALID");
}

#[tokio::test]
async fn lists_show_own_changes_while_the_read_replica_lags() {
    let urls = TwoUrls::start().await;
    urls.here.issue_key(&urls.tenant, &[]).await;
    assert_eq!(urls.listed_keys().await.len(), 1);
    let events = vec![usage_event(&urls.tenant, "calls", 7, Some(urls.clock.now()))];
    record_usage(&urls.here, "req-1", events).await.unwrap();
    assert_eq!(usage_total(&urls.here, &urls.tenant, "calls").await, 7);
    let before = urls.requests_with("FROM usage_totals");
    // From then on the read replica shows a state after the writes.
    urls.follow().await;
    urls.follow().await;
    for _ in 0..4 {
        urls.read_replica.catch_up().await.unwrap();
        urls.step().await;
    }
    assert_eq!(usage_total(&urls.here, &urls.tenant, "calls").await, 7);
    assert_eq!(urls.listed_keys().await.len(), 1);
    let now = urls.requests_with("FROM usage_totals");
    assert_eq!(now, [before[0] + 1, before[1]], "the read replica answers again");
}

/// The URL is that of another customer's database, by mistake.
#[tokio::test]
async fn read_replica_of_another_database_answers_nothing() {
    let primary = TestDatabase::test_server().await;
    let other = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    let shared = || Arc::clone(&clock) as SharedClock;
    let stranger = TestService::start_with(other.settings(), shared()).await;
    let foreign = stranger.create_tenant("Other").await;
    let (foreign_key, _) = stranger.issue_key(&foreign, &[]).await;

    let config = two_urls(primary.settings(), &other.server().url());
    let mut here = TestService::start_configured(config, shared()).await;
    here.running.wait_until_ready().await.unwrap();
    let tenant = here.create_tenant("Acme").await;
    let (key, _) = here.issue_key(&tenant, &[]).await;
    for _ in 0..10 {
        clock.advance(POLL_STEP);
        here.poll_feed().await;
    }
    let metrics = Scrape::collect(&here).await;
    metrics.assert_value("tenant_auth_database_read_replica_used", 0.0);
    metrics.assert_value("tenant_auth_database_trusted", 1.0);
    let status = http_request(here.running.ops_address().unwrap(), "GET /readyz?verbose");
    let status = status.await.unwrap().body;
    assert!(
        status.contains("reads go to the primary, because the read replica is unusable (other_database)"),
        "{status}"
    );
    assert_eq!(outcome(&here.validate(&key).await), "VERDICT_VALID");
    assert_eq!(outcome(&here.validate(&foreign_key).await), "VERDICT_UNKNOWN");
}

/// A read replica that is started at the same time is empty at first.
#[tokio::test]
async fn empty_read_replica_is_used_as_soon_as_it_has_the_data() {
    let primary = TestDatabase::test_server().await;
    let read_replica =
        HranaServer::builder().token(TOKEN).replica_of(primary.server()).start().await.unwrap();
    let clock = ManualClock::at(NOW);
    let shared = Arc::clone(&clock) as SharedClock;
    let config = two_urls(primary.settings(), &read_replica.url());
    let mut here = TestService::start_configured(config, shared).await;
    here.running.wait_until_ready().await.unwrap();
    let tenant = here.create_tenant("Acme").await;
    let (key, _) = here.issue_key(&tenant, &[]).await;
    let used = async || Scrape::collect(&here).await.value("tenant_auth_database_read_replica_used");
    for _ in 0..8 {
        clock.advance(POLL_STEP);
        here.poll_feed().await;
        assert_eq!(used().await, 0.0);
        assert_eq!(outcome(&here.validate(&key).await), "VERDICT_VALID");
    }
    read_replica.catch_up().await.unwrap();
    for _ in 0..20 {
        clock.advance(POLL_STEP);
        here.poll_feed().await;
        read_replica.catch_up().await.unwrap();
    }
    assert_eq!(used().await, 1.0);
}
