//! Which keys are in use: written once an hour, and read ahead by whoever starts.

use std::{sync::Arc, time::Duration};

use tenant_auth_proto::v1::{self, Source, Verdict};
use tenant_auth_svc::{
    config::Settings,
    domain::clock::{ManualClock, SharedClock, SystemClock},
};
use tenant_auth_testkit::Fault;

use crate::harness::{Database, NOW, Service, WRITE_USES, outcome, strange_key};

/// Part of the statement that reads ahead, and of the one that writes uses.
const READ_AHEAD: &str = "ORDER BY last_used_at DESC";
const HOUR: Duration = Duration::from_secs(3_600);

async fn last_used(service: &Service, tenant: &str) -> Vec<Option<i64>> {
    let request = v1::ListKeysRequest { tenant_id: tenant.to_owned(), ..Default::default() };
    let keys = service.admin().list_keys(request).await.unwrap().into_inner().keys;
    keys.into_iter().map(|key| key.last_used_at.map(|at| at.seconds)).collect()
}

fn hours(number: i64) -> Option<i64> {
    Some(NOW.0 / 1_000 + number * 3_600)
}

#[tokio::test]
async fn a_key_in_use_costs_one_row_an_hour() {
    let database = Database::test_server().await;
    let clock = ManualClock::at(NOW);
    let service = Service::start_at(&database, &clock).await;
    let tenant = service.tenant("Acme").await;
    let (key, _) = service.key(&tenant, &[]).await;
    let (_unused, _) = service.key(&tenant, &[]).await;
    let (revoked, revoked_id) = service.key(&tenant, &[]).await;
    service.revoke(&revoked_id).await;

    let mut writes = 0;
    // Every minute for two and a half hours.
    for minute in 0..150 {
        service.validate(&key).await.unwrap();
        service.validate(&revoked).await.unwrap();
        service.validate(&strange_key()).await.unwrap();
        let before = database.server().requests_with(WRITE_USES);
        service.running.write_uses().await.unwrap();
        let written = database.server().requests_with(WRITE_USES) - before;
        assert_eq!(written, u64::from(minute % 60 == 0), "minute {minute}");
        writes += written;
        clock.advance(Duration::from_secs(60));
    }
    assert_eq!(writes, 3);
    assert_eq!(last_used(&service, &tenant).await, [hours(2), None]);
}

#[tokio::test]
async fn what_could_not_be_written_is_written_later_or_at_the_end() {
    let database = Database::test_server().await;
    let clock = ManualClock::at(NOW);
    let service = Service::start_at(&database, &clock).await;
    let tenant = service.tenant("Acme").await;
    let (key, _) = service.key(&tenant, &[]).await;
    service.validate(&key).await.unwrap();
    database.server().faults().set(Fault::service_unavailable());
    assert!(service.running.write_uses().await.is_err());
    database.server().faults().clear();
    clock.advance(Duration::from_secs(10));
    service.running.write_uses().await.unwrap();
    assert_eq!(last_used(&service, &tenant).await, [hours(0)]);

    clock.advance(HOUR);
    service.validate(&key).await.unwrap();
    service.running.stop().await;
    let next = Service::start_at(&database, &clock).await;
    assert!(last_used(&next, &tenant).await[0] > hours(1));
}

/// One replica's use is the other's head start: it knows the keys in use before anybody asks, with a pepper and without.
#[tokio::test]
async fn a_replica_that_starts_knows_the_keys_in_use() {
    for peppered in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("peppers");
        std::fs::write(&file, "one nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn").unwrap();
        let database = Database::test_server().await;
        let clock = ManualClock::at(NOW);
        let settings = || -> Settings {
            let settings = database.settings().with_flag("TENANT_AUTH_CACHE_KEYS", Some("2".to_owned()));
            let file = peppered.then(|| file.display().to_string());
            settings.with_flag("TENANT_AUTH_PEPPER_FILE", file)
        };
        let start = || Service::start_with(settings(), Arc::clone(&clock) as SharedClock);
        let one = start().await;
        let tenant = one.tenant("Acme").await;
        let mut keys = Vec::new();
        for _ in 0..3 {
            let (key, id) = one.key(&tenant, &[]).await;
            one.validate(&key).await.unwrap();
            one.running.write_uses().await.unwrap();
            clock.advance(Duration::from_secs(1));
            keys.push((key, id));
        }

        let two = start().await;
        let requests = database.asked();
        for (key, _) in &keys[1..] {
            let answer = two.validate(key).await.unwrap();
            assert_eq!(answer.verdict(), Verdict::Valid);
            assert_eq!(answer.provenance.unwrap().source(), Source::Fresh, "read ahead");
        }
        assert_eq!(database.asked(), requests);

        // A third one, for an outage that begins as it starts.
        let three = start().await;
        database.server().faults().set(Fault::ResetBeforeExecute);
        clock.advance(HOUR);
        let stale = three.validate(&keys[2].0).await.unwrap();
        assert_eq!((stale.verdict(), stale.provenance.unwrap().source()), (Verdict::Valid, Source::Stale));
        let first = outcome(&three.validate(&keys[0].0).await);
        assert_eq!(first, "Unavailable", "two fit into memory, and this one was used before them");
        database.server().faults().clear();

        // What was read ahead hears the news like everything else.
        clock.advance(Duration::from_secs(1));
        three.hears().await;
        one.revoke(&keys[1].1).await;
        three.hears().await;
        assert_eq!(three.validate(&keys[1].0).await.unwrap().verdict(), Verdict::Revoked);
    }
}

#[tokio::test]
async fn reading_ahead_goes_by_pages_and_nothing_waits_for_it() {
    let database = Database::test_server().await;
    let first = Service::start(&database).await;
    let tenant = first.tenant("Acme").await;
    let (key, _) = first.key(&tenant, &[]).await;
    let many = format!(
        "INSERT INTO api_keys (key_hash, id, tenant_id, created_at, last_used_at) \
         SELECT randomblob(32), 'key_' || value, '{tenant}', 1, value / 7 FROM generate_series"
    );
    let series = "WITH RECURSIVE generate_series (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM \
                  generate_series WHERE value < 1201) ";
    database.server().execute(&format!("{series}{many}")).unwrap();

    let read_ahead = || database.server().requests_with(READ_AHEAD);
    let before = read_ahead();
    let second = Service::start(&database).await;
    assert_eq!(second.running.memory().size().records, 1_201);
    let of_the_start = read_ahead() - before;
    assert_eq!(of_the_start, 3, "by pages of 500");
    let third = Service::start(&database).await;
    assert_eq!(read_ahead() - before, 2 * of_the_start, "a start costs what a start costs");
    drop(third);

    // Twice: a call and its second attempt. Then it goes on.
    database.server().faults().set_where(READ_AHEAD, 2, Fault::service_unavailable());
    let mut fourth = Service::start_unready(database.settings(), SystemClock::shared()).await;
    fourth.running.ready().await.unwrap();
    assert_eq!(fourth.validate(&key).await.unwrap().verdict(), Verdict::Valid);
    fourth.running.read_ahead().await;
    assert_eq!(fourth.running.memory().size().records, 1_202);
}
