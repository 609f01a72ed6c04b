//! A service that reads from a copy of the database, which lags behind or stands still.

use std::{sync::Arc, time::Duration};

use tenant_auth_proto::v1::{self, Source, Verdict};
use tenant_auth_svc::{
    config::Settings,
    domain::clock::{Clock as _, ManualClock, SharedClock, SystemClock, UnixMillis},
};
use tenant_auth_testkit::{Fault, HranaServer};

use crate::harness::{Database, NOW, Service, TOKEN, http, outcome, strange_key};

/// Two replicas: one at the primary, one at a copy of it.
struct Region {
    primary: Database,
    copy: HranaServer,
    clock: Arc<ManualClock>,
    here: Service,
    there: Service,
    tenant: String,
}

impl Region {
    async fn start() -> Self {
        let primary = Database::test_server().await;
        let clock = ManualClock::at(NOW);
        primary.follow(&clock);
        let shared = || Arc::clone(&clock) as SharedClock;
        let beating =
            |settings: Settings| settings.with_flag("TENANT_AUTH_HEARTBEAT_INTERVAL", Some("1s".to_owned()));
        let here = Service::start_with(beating(primary.settings()), shared()).await;
        let tenant = here.tenant("Acme").await;
        let copy = HranaServer::builder().token(TOKEN).copy_of(primary.server()).start().await.unwrap();
        let copys = Arc::clone(&clock);
        copy.set_clock(move || copys.now().0);
        let settings = primary.settings().with_flag("TENANT_AUTH_DATABASE_URL", Some(copy.url()));
        let there = Service::start_with(beating(settings), shared()).await;
        let region = Self { primary, copy, clock, here, there, tenant };
        region.everybody_hears().await;
        region
    }

    async fn everybody_hears(&self) {
        self.copy.catch_up().await.unwrap();
        self.here.hears().await;
        self.there.hears().await;
    }

    async fn there_hears(&self) {
        self.copy.catch_up().await.unwrap();
        self.there.hears().await;
    }

    /// A second passes; whoever finds it due gives a sign of life, and both read the log.
    async fn pass_a_second(&self) {
        self.clock.advance(Duration::from_secs(1));
        for service in [&self.here, &self.there] {
            service.running.beat_if_due().await.unwrap();
            let _ = service.running.feed().poll().await;
        }
    }

    async fn there_says(&self, key: &str) -> (Verdict, Source) {
        let response = self.there.validate(key).await.unwrap();
        (response.verdict(), response.provenance.unwrap().source())
    }
}

#[tokio::test]
async fn a_replicas_own_changes_are_never_older_than_they_are_behind_a_copy_that_lags() {
    let region = Region::start().await;
    let there = &region.there;
    // Issued: it is known at once, though the copy lacks it.
    let (key, key_id) = there.key(&region.tenant, &["a"]).await;
    assert_eq!(outcome(&there.validate(&key).await), "VERDICT_VALID");
    // Rotated: so is its successor.
    let rotate = v1::RotateKeyRequest { key_id, ..Default::default() };
    let rotated = there.admin().rotate_key(rotate).await.unwrap().into_inner();
    assert_eq!(outcome(&there.validate(&rotated.plaintext).await), "VERDICT_VALID");
    // What was changed, and how the copy does not show yet, is not said to be as it was.
    assert_eq!(outcome(&there.validate(&key).await), "Unavailable");
    // Revoked.
    there.revoke(&rotated.key.unwrap().key_id).await;
    for seconds in [0, 1, 7, 100] {
        region.clock.advance(Duration::from_secs(seconds));
        assert_eq!(outcome(&there.validate(&rotated.plaintext).await), "VERDICT_REVOKED", "{seconds}");
    }
    region.everybody_hears().await;
    assert_eq!(outcome(&there.validate(&key).await), "VERDICT_VALID", "during the overlap");
    assert_eq!(outcome(&there.validate(&rotated.plaintext).await), "VERDICT_REVOKED");

    // A tenant's suspension, and its end.
    let tenant_id = region.tenant.clone();
    let suspend = v1::SuspendTenantRequest { tenant_id: tenant_id.clone(), reason: "unpaid".to_owned() };
    there.admin().suspend_tenant(suspend).await.unwrap();
    assert_eq!(outcome(&there.validate(&key).await), "VERDICT_TENANT_SUSPENDED");
    region.everybody_hears().await;
    there.admin().resume_tenant(v1::ResumeTenantRequest { tenant_id }).await.unwrap();
    assert_eq!(outcome(&there.validate(&key).await), "Unavailable", "and not that it is suspended");
    region.everybody_hears().await;
    assert_eq!(outcome(&there.validate(&key).await), "VERDICT_VALID");
}

#[tokio::test]
async fn an_imported_key_is_not_unknown_behind_a_copy_that_lags() {
    let region = Region::start().await;
    let key = "a-key-of-another-system";
    assert_eq!(outcome(&region.there.validate(key).await), "VERDICT_UNKNOWN");
    let hash = tenant_auth_svc::domain::key::KeyHash::of(&tenant_auth_svc::domain::key::PresentedKey::new(
        key.to_owned(),
    ));
    let import = v1::ImportKey {
        tenant_id: region.tenant.clone(),
        sha256: hash.as_bytes().to_vec(),
        ..Default::default()
    };
    region.there.admin().import_keys(v1::ImportKeysRequest { keys: vec![import] }).await.unwrap();
    assert_eq!(outcome(&region.there.validate(key).await), "Unavailable");
    region.everybody_hears().await;
    assert_eq!(outcome(&region.there.validate(key).await), "VERDICT_VALID");
}

#[tokio::test]
async fn a_copy_that_stands_still_is_noticed_and_counts_as_an_outage() {
    let region = Region::start().await;
    let (known, known_id) = region.here.key(&region.tenant, &[]).await;
    let (cold, _) = region.here.key(&region.tenant, &[]).await;
    region.everybody_hears().await;
    assert_eq!(region.there_says(&known).await.0, Verdict::Valid);
    for _ in 0..5 {
        region.pass_a_second().await;
        region.copy.catch_up().await.unwrap();
    }
    let ops = region.there.running.ops_address().unwrap();
    let told = async |name: &str| {
        let metrics = http(ops, "GET /metrics").await.unwrap().body;
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
        line.parse::<f64>().unwrap()
    };
    let standstill = async || told("tenant_auth_database_standstill_seconds").await;
    let grace_ends = async || told("tenant_auth_cache_grace_ends_seconds{of=\"oldest\"}").await;
    assert_eq!(standstill().await, 0.0, "it moves");
    assert_eq!(grace_ends().await, 14_400.0, "nothing needs it");

    // From here on it stands still, and its primary goes on.
    region.here.revoke(&known_id).await;
    let mut honoured = 0;
    for second in 0..20 {
        region.pass_a_second().await;
        let (verdict, source) = region.there_says(&known).await;
        assert_eq!(verdict, Verdict::Valid, "nobody can tell it otherwise");
        if source != Source::Stale {
            honoured = second;
        }
    }
    assert!(honoured <= 10, "after {honoured} s it was still taken for fresh");
    assert!(standstill().await >= 15.0);
    assert!(grace_ends().await <= 14_400.0 - 15.0, "it runs from when the copy stopped");
    assert!(
        region.there.running.feed().poll().await.is_err(),
        "it is not heard: nobody who watches is told that all is well"
    );
    assert_eq!(
        outcome(&region.there.validate(&strange_key()).await),
        "Unavailable",
        "an absence of then is none"
    );
    assert_eq!(region.there_says(&cold).await, (Verdict::Valid, Source::Stale), "a record of then stands in");
    let verbose = http(ops, "GET /readyz?verbose").await.unwrap().body;
    assert!(verbose.contains("\ndatabase  the copy that is read has stood still for "), "{verbose}");

    region.copy.catch_up().await.unwrap();
    region.there.hears().await;
    assert_eq!(region.there_says(&known).await.0, Verdict::Revoked);
    assert_eq!(outcome(&region.there.validate(&strange_key()).await), "VERDICT_UNKNOWN");
}

/// The way from the copy to its primary is broken, so that neither changes nor questions get there.
#[tokio::test]
async fn a_copy_that_is_cut_off_from_its_primary_counts_as_an_outage() {
    let region = Region::start().await;
    let (known, _) = region.here.key(&region.tenant, &[]).await;
    region.everybody_hears().await;
    assert_eq!(region.there_says(&known).await.0, Verdict::Valid);
    region.copy.cut_off(true);
    region.clock.advance(Duration::from_secs(1));
    region.there.hears().await;
    assert!(region.there.running.beat_if_due().await.is_err(), "nobody answers");
    for _ in 0..3 {
        region.clock.advance(Duration::from_secs(1));
        let _ = region.there.running.feed().poll().await;
    }
    region.clock.advance(Duration::from_secs(7));
    assert_eq!(region.there_says(&known).await, (Verdict::Valid, Source::Stale));
    assert_eq!(outcome(&region.there.validate(&strange_key()).await), "Unavailable");

    region.copy.cut_off(false);
    region.pass_a_second().await;
    region.copy.catch_up().await.unwrap();
    region.there.hears().await;
    assert_eq!(outcome(&region.there.validate(&strange_key()).await), "VERDICT_UNKNOWN");
}

/// Its primary takes no changes, so nobody can give a sign of life; but it says what it has.
#[tokio::test]
async fn a_primary_that_takes_no_changes_does_not_make_its_copy_stand_still() {
    for fault in [Fault::blocked(), Fault::Hang] {
        let region = Region::start().await;
        let (key, key_id) = region.here.key(&region.tenant, &[]).await;
        region.everybody_hears().await;
        for server in [region.primary.server(), &region.copy] {
            server.faults().set_writes(fault.clone());
        }
        for second in 0..6 {
            region.clock.advance(Duration::from_secs(1));
            // One of them is enough where each of them takes its time to fail.
            if second < 1 {
                let _ = region.there.running.beat_if_due().await;
            }
            region.there.hears().await;
        }
        assert_eq!(outcome(&region.there.validate(&strange_key()).await), "VERDICT_UNKNOWN", "{fault:?}");
        let revoke = format!("UPDATE api_keys SET revoked_at = 1 WHERE id = '{key_id}'");
        region.primary.server().execute(&revoke).unwrap();
        region.there_hears().await;
        assert_eq!(region.there_says(&key).await.0, Verdict::Revoked, "{fault:?}");
    }
}

/// What was done at the primary shows in the copy later. Whoever did it waits for that, and does not end because it is not there yet.
#[tokio::test]
async fn whoever_migrates_behind_a_copy_that_lags_waits_until_it_shows_the_schema() {
    let primary = Database::test_server().await;
    let copy = HranaServer::builder().token(TOKEN).copy_of(primary.server()).start().await.unwrap();
    let settings = || primary.settings().with_flag("TENANT_AUTH_DATABASE_URL", Some(copy.url()));
    let mut service = Service::start_unready(settings(), SystemClock::shared()).await;
    let versions =
        || primary.server().query("SELECT count(*) FROM sqlite_master WHERE name = 'schema_migrations'");
    while versions().unwrap()[0][0]["value"] != "1" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // It shows each part of it some time after it was made.
    let catching_up = async {
        loop {
            copy.catch_up().await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        ready = service.running.ready() => ready.unwrap(),
        () = catching_up => {}
        () = tokio::time::sleep(Duration::from_secs(60)) => panic!("it must become ready"),
    }
}

/// One sign of life a second, however many replicas there are, and one row written for each.
#[tokio::test]
async fn a_sign_of_life_costs_a_row_a_second_for_all_replicas() {
    let region = Region::start().await;
    let beat = || region.primary.server().query("SELECT beat FROM heartbeat").unwrap()[0][0]["value"].clone();
    let number = |value: serde_json::Value| value.as_str().unwrap().parse::<i64>().unwrap();
    let before = number(beat());
    for _ in 0..10 {
        region.pass_a_second().await;
        region.copy.catch_up().await.unwrap();
    }
    let beats = number(beat()) - before;
    assert!((1..=10).contains(&beats), "{beats}");
}

/// A database whose clock was set back gives heartbeats all the same: without them nobody could tell that a copy stands still.
#[tokio::test]
async fn a_copy_that_stands_still_is_noticed_after_the_databases_clock_was_set_back() {
    let region = Region::start().await;
    region.pass_a_second().await;
    region.clock.jump_to(UnixMillis(region.clock.now().0 - 3_600_000));
    region.everybody_hears().await;
    for _ in 0..6 {
        region.pass_a_second().await;
    }
    assert!(region.there.running.feed().poll().await.is_err(), "it stands still");
}

/// Each key that the copy does not show yet is waited for; the keys of a batch are waited for together.
#[tokio::test]
async fn a_batch_waits_for_a_copy_that_lags_no_longer_than_a_single_key_does() {
    let region = Region::start().await;
    let mut keys = Vec::new();
    for _ in 0..12 {
        let (key, key_id) = region.there.key(&region.tenant, &[]).await;
        let rotate = v1::RotateKeyRequest { key_id, ..Default::default() };
        region.there.admin().rotate_key(rotate).await.unwrap();
        keys.push(key);
    }
    let requests =
        keys.iter().map(|key| v1::ValidateKeyRequest { key: key.clone(), ..Default::default() }).collect();
    let before = region.copy.requests_with("AS digests");
    let request = v1::BatchValidateKeysRequest { requests };
    region.there.validation().batch_validate_keys(request).await.unwrap();
    // Every 50 ms for half a second, the first one alone and the others together; each in turn asks 96 times.
    let asked = region.copy.requests_with("AS digests") - before;
    assert!((2..=60).contains(&asked), "{asked}");
}

/// The copy tells, late, of a change that came before the replica's own: it says nothing about what came after it.
#[tokio::test]
async fn a_replicas_own_revocation_outlives_older_news_of_a_copy_that_lags() {
    let region = Region::start().await;
    let (key, key_id) = region.there.key(&region.tenant, &["a"]).await;
    let (other, _) = region.there.key(&region.tenant, &[]).await;
    region.everybody_hears().await;
    let primary = region.primary.server();
    primary.execute(&format!("UPDATE api_keys SET scopes = '[]' WHERE id = '{key_id}'")).unwrap();
    primary.execute(&format!("UPDATE tenants SET plan = 'max' WHERE id = '{}'", region.tenant)).unwrap();
    region.copy.catch_up().await.unwrap();
    region.there.revoke(&key_id).await;
    let suspend = v1::SuspendTenantRequest { tenant_id: region.tenant.clone(), reason: "unpaid".to_owned() };
    region.there.admin().suspend_tenant(suspend.clone()).await.unwrap();
    region.there.hears().await;
    assert_eq!(outcome(&region.there.validate(&key).await), "VERDICT_REVOKED");
    assert_eq!(outcome(&region.there.validate(&other).await), "VERDICT_TENANT_SUSPENDED");

    // Nor does a further attempt that fails.
    region.copy.faults().set_writes(Fault::blocked());
    assert!(region.there.admin().suspend_tenant(suspend).await.is_err());
    assert_eq!(outcome(&region.there.validate(&other).await), "VERDICT_TENANT_SUSPENDED");
}
