//! Recently used keys: last use is written once an hour, and a starting replica preloads these keys.

use std::{sync::Arc, time::Duration};

use tenant_auth_proto::v1::{self, Source, Verdict};
use tenant_auth_svc::{
    config::Settings,
    domain::clock::{ManualClock, SharedClock, SystemClock},
};
use tenant_auth_testkit::Fault;

use crate::harness::{NOW, TestDatabase, TestService, WRITE_LAST_USED, outcome, unknown_key};

/// Parts of the statement that preloads and of the one that writes last-used times.
const READ_AHEAD: &str = "ORDER BY last_used_at DESC";
const HOUR: Duration = Duration::from_secs(3_600);

async fn last_used_hours(service: &TestService, tenant: &str) -> Vec<Option<i64>> {
    let request = v1::ListKeysRequest { tenant_id: tenant.to_owned(), ..Default::default() };
    let keys = service.admin().list_keys(request).await.unwrap().into_inner().keys;
    keys.into_iter().map(|key| key.last_used_at.map(|at| at.seconds)).collect()
}

fn hours_after_start(number: i64) -> Option<i64> {
    Some(NOW.0 / 1_000 + number * 3_600)
}

#[tokio::test]
async fn used_key_writes_one_row_per_hour() {
    let database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    let service = TestService::start_at(&database, &clock).await;
    let tenant = service.create_tenant("Acme").await;
    let (key, _) = service.issue_key(&tenant, &[]).await;
    let (_unused, _) = service.issue_key(&tenant, &[]).await;
    let (revoked, revoked_id) = service.issue_key(&tenant, &[]).await;
    service.revoke_key(&revoked_id).await;

    let mut writes = 0;
    // Every minute for two and a half hours.
    for minute in 0..150 {
        service.validate(&key).await.unwrap();
        service.validate(&revoked).await.unwrap();
        service.validate(&unknown_key()).await.unwrap();
        let before = database.server().requests_with(WRITE_LAST_USED);
        service.running.flush_pending_writes().await.unwrap();
        let written = database.server().requests_with(WRITE_LAST_USED) - before;
        assert_eq!(written, u64::from(minute % 60 == 0), "minute {minute}");
        writes += written;
        clock.advance(Duration::from_secs(60));
    }
    assert_eq!(writes, 3);
    assert_eq!(last_used_hours(&service, &tenant).await, [hours_after_start(2), None]);
}

#[tokio::test]
async fn failed_last_used_write_is_retried_or_flushed_at_shutdown() {
    let database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    let service = TestService::start_at(&database, &clock).await;
    let tenant = service.create_tenant("Acme").await;
    let (key, _) = service.issue_key(&tenant, &[]).await;
    service.validate(&key).await.unwrap();
    database.server().faults().set(Fault::service_unavailable());
    assert!(service.running.flush_pending_writes().await.is_err());
    database.server().faults().clear();
    clock.advance(Duration::from_secs(10));
    service.running.flush_pending_writes().await.unwrap();
    assert_eq!(last_used_hours(&service, &tenant).await, [hours_after_start(0)]);

    clock.advance(HOUR);
    service.validate(&key).await.unwrap();
    service.running.stop().await;
    let next = TestService::start_at(&database, &clock).await;
    assert!(last_used_hours(&next, &tenant).await[0] > hours_after_start(1));
}

/// A starting replica preloads the keys that other replicas have used, with a pepper and without.
#[tokio::test]
async fn starting_replica_preloads_recently_used_keys() {
    for peppered in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("peppers");
        std::fs::write(&file, "one nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn").unwrap();
        let database = TestDatabase::test_server().await;
        let clock = ManualClock::at(NOW);
        let settings = || -> Settings {
            let settings = database.settings().with_flag("TENANT_AUTH_CACHE_KEYS", Some("2".to_owned()));
            let file = peppered.then(|| file.display().to_string());
            settings.with_flag("TENANT_AUTH_PEPPER_FILE", file)
        };
        let start = || TestService::start_with(settings(), Arc::clone(&clock) as SharedClock);
        let one = start().await;
        let tenant = one.create_tenant("Acme").await;
        let mut keys = Vec::new();
        for _ in 0..3 {
            let (key, id) = one.issue_key(&tenant, &[]).await;
            one.validate(&key).await.unwrap();
            one.running.flush_pending_writes().await.unwrap();
            clock.advance(Duration::from_secs(1));
            keys.push((key, id));
        }

        let two = start().await;
        let requests = database.caller_requests();
        for (key, _) in &keys[1..] {
            let answer = two.validate(key).await.unwrap();
            assert_eq!(answer.verdict(), Verdict::Valid);
            assert_eq!(answer.provenance.unwrap().source(), Source::Fresh, "preloaded");
        }
        assert_eq!(database.caller_requests(), requests);

        // A third replica, for an outage that begins as it starts.
        let three = start().await;
        database.server().faults().set(Fault::ResetBeforeExecute);
        clock.advance(HOUR);
        let stale = three.validate(&keys[2].0).await.unwrap();
        assert_eq!((stale.verdict(), stale.provenance.unwrap().source()), (Verdict::Valid, Source::Stale));
        let first = outcome(&three.validate(&keys[0].0).await);
        assert_eq!(first, "Unavailable", "the cache holds two keys, and this one was used earlier");
        database.server().faults().clear();

        // Change events apply to preloaded entries as to all others.
        clock.advance(Duration::from_secs(1));
        three.poll_feed().await;
        one.revoke_key(&keys[1].1).await;
        three.poll_feed().await;
        assert_eq!(three.validate(&keys[1].0).await.unwrap().verdict(), Verdict::Revoked);
    }
}

#[tokio::test]
async fn preload_is_paged_and_delays_nothing() {
    let database = TestDatabase::test_server().await;
    let first = TestService::start(&database).await;
    let tenant = first.create_tenant("Acme").await;
    let (key, _) = first.issue_key(&tenant, &[]).await;
    let many = format!(
        "INSERT INTO api_keys (key_hash, id, tenant_id, created_at, last_used_at) \
         SELECT randomblob(32), 'key_' || value, '{tenant}', 1, value / 7 FROM generate_series"
    );
    let series = "WITH RECURSIVE generate_series (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM \
                  generate_series WHERE value < 4401) ";
    database.server().execute(&format!("{series}{many}")).unwrap();

    let preloaded = || database.server().requests_with(READ_AHEAD);
    let before = preloaded();
    let second = TestService::start(&database).await;
    assert_eq!(second.running.key_cache().size().records, 4_401);
    let of_the_start = preloaded() - before;
    assert_eq!(of_the_start, 3, "by pages of 2,000");
    let third = TestService::start(&database).await;
    assert_eq!(preloaded() - before, 2 * of_the_start, "a start costs what a start costs");
    drop(third);

    // Two failures: one call and its retry. Then preloading continues.
    database.server().faults().set_where(READ_AHEAD, 2, Fault::service_unavailable());
    let mut fourth = TestService::start_unready(database.settings(), SystemClock::shared()).await;
    fourth.running.wait_until_ready().await.unwrap();
    assert_eq!(fourth.validate(&key).await.unwrap().verdict(), Verdict::Valid);
    fourth.running.wait_until_preloaded().await;
    assert_eq!(fourth.running.key_cache().size().records, 4_402);
}
