//! A service that reads from a read replica of the database which lags or is stalled.

use std::{sync::Arc, time::Duration};

use tenant_auth_proto::v1::{self, Source, Verdict};
use tenant_auth_svc::{
    config::Settings,
    domain::clock::{Clock as _, ManualClock, SharedClock, SystemClock, UnixMillis},
};
use tenant_auth_testkit::{Fault, HranaServer};

use crate::harness::{NOW, TOKEN, TestDatabase, TestService, http_request, outcome, unknown_key};

/// Two service replicas: one reads from the primary, one from a read replica of it.
struct PrimaryAndReadReplica {
    primary: TestDatabase,
    read_replica: HranaServer,
    clock: Arc<ManualClock>,
    at_primary: TestService,
    at_read_replica: TestService,
    tenant: String,
}

impl PrimaryAndReadReplica {
    async fn start() -> Self {
        let primary = TestDatabase::test_server().await;
        let clock = ManualClock::at(NOW);
        primary.follow_clock(&clock);
        let shared = || Arc::clone(&clock) as SharedClock;
        let beating =
            |settings: Settings| settings.with_flag("TENANT_AUTH_HEARTBEAT_INTERVAL", Some("1s".to_owned()));
        let here = TestService::start_with(beating(primary.settings()), shared()).await;
        let tenant = here.create_tenant("Acme").await;
        let read_replica =
            HranaServer::builder().token(TOKEN).replica_of(primary.server()).start().await.unwrap();
        let read_replica_clock = Arc::clone(&clock);
        read_replica.set_clock(move || read_replica_clock.now().0);
        let settings = primary.settings().with_flag("TENANT_AUTH_DATABASE_URL", Some(read_replica.url()));
        let there = TestService::start_with(beating(settings), shared()).await;
        let region = Self { primary, read_replica, clock, at_primary: here, at_read_replica: there, tenant };
        region.poll_both_feeds().await;
        region
    }

    async fn poll_both_feeds(&self) {
        self.read_replica.catch_up().await.unwrap();
        self.at_primary.poll_feed().await;
        self.at_read_replica.poll_feed().await;
    }

    async fn poll_read_replica_feed(&self) {
        self.read_replica.catch_up().await.unwrap();
        self.at_read_replica.poll_feed().await;
    }

    /// Advances the clocks by one second. A replica whose heartbeat is due writes it, and both poll the
    /// change log.
    async fn advance_one_second(&self) {
        self.clock.advance(Duration::from_secs(1));
        for service in [&self.at_primary, &self.at_read_replica] {
            service.running.beat_if_due().await.unwrap();
            let _ = service.running.feed().poll().await;
        }
    }

    async fn validate_at_read_replica(&self, key: &str) -> (Verdict, Source) {
        let response = self.at_read_replica.validate(key).await.unwrap();
        (response.verdict(), response.provenance.unwrap().source())
    }
}

#[tokio::test]
async fn own_changes_stay_visible_behind_lagging_read_replica() {
    let region = PrimaryAndReadReplica::start().await;
    let there = &region.at_read_replica;
    // An issued key is known at once, although the read replica does not have it yet.
    let (key, key_id) = there.issue_key(&region.tenant, &["a"]).await;
    assert_eq!(outcome(&there.validate(&key).await), "VERDICT_VALID");
    // So is the successor of a rotated key.
    let rotate = v1::RotateKeyRequest { key_id, ..Default::default() };
    let rotated = there.admin().rotate_key(rotate).await.unwrap().into_inner();
    assert_eq!(outcome(&there.validate(&rotated.plaintext).await), "VERDICT_VALID");
    // The changed key is not reported with its old state while the read replica does not show the change.
    assert_eq!(outcome(&there.validate(&key).await), "Unavailable");
    // A revoked key.
    there.revoke_key(&rotated.key.unwrap().key_id).await;
    for seconds in [0, 1, 7, 100] {
        region.clock.advance(Duration::from_secs(seconds));
        assert_eq!(outcome(&there.validate(&rotated.plaintext).await), "VERDICT_REVOKED", "{seconds}");
    }
    region.poll_both_feeds().await;
    assert_eq!(outcome(&there.validate(&key).await), "VERDICT_VALID", "during the overlap");
    assert_eq!(outcome(&there.validate(&rotated.plaintext).await), "VERDICT_REVOKED");

    // A tenant is suspended and activated again.
    let tenant_id = region.tenant.clone();
    let suspend = v1::SuspendTenantRequest { tenant_id: tenant_id.clone(), reason: "unpaid".to_owned() };
    there.admin().suspend_tenant(suspend).await.unwrap();
    assert_eq!(outcome(&there.validate(&key).await), "VERDICT_TENANT_SUSPENDED");
    region.poll_both_feeds().await;
    there.admin().resume_tenant(v1::ResumeTenantRequest { tenant_id }).await.unwrap();
    assert_eq!(
        outcome(&there.validate(&key).await),
        "Unavailable",
        "the tenant's suspension is not reported"
    );
    region.poll_both_feeds().await;
    assert_eq!(outcome(&there.validate(&key).await), "VERDICT_VALID");
}

#[tokio::test]
async fn imported_key_is_known_behind_lagging_read_replica() {
    let region = PrimaryAndReadReplica::start().await;
    let key = "a-key-of-another-system";
    assert_eq!(outcome(&region.at_read_replica.validate(key).await), "VERDICT_UNKNOWN");
    let hash = tenant_auth_svc::domain::key::KeyHash::of(&tenant_auth_svc::domain::key::PresentedKey::new(
        key.to_owned(),
    ));
    let import = v1::ImportKey {
        tenant_id: region.tenant.clone(),
        sha256: hash.as_bytes().to_vec(),
        ..Default::default()
    };
    region.at_read_replica.admin().import_keys(v1::ImportKeysRequest { keys: vec![import] }).await.unwrap();
    assert_eq!(outcome(&region.at_read_replica.validate(key).await), "Unavailable");
    region.poll_both_feeds().await;
    assert_eq!(outcome(&region.at_read_replica.validate(key).await), "VERDICT_VALID");
}

#[tokio::test]
async fn stalled_read_replica_is_detected_as_outage() {
    let region = PrimaryAndReadReplica::start().await;
    let (known, known_id) = region.at_primary.issue_key(&region.tenant, &[]).await;
    let (cold, _) = region.at_primary.issue_key(&region.tenant, &[]).await;
    region.poll_both_feeds().await;
    assert_eq!(region.validate_at_read_replica(&known).await.0, Verdict::Valid);
    for _ in 0..5 {
        region.advance_one_second().await;
        region.read_replica.catch_up().await.unwrap();
    }
    let ops = region.at_read_replica.running.ops_address().unwrap();
    let metric = async |name: &str| {
        let metrics = http_request(ops, "GET /metrics").await.unwrap().body;
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
        line.parse::<f64>().unwrap()
    };
    let stall = async || metric("tenant_auth_database_read_replica_stalled_seconds").await;
    let grace_ends = async || metric("tenant_auth_cache_grace_remaining_seconds{record=\"oldest\"}").await;
    assert_eq!(stall().await, 0.0, "the read replica is not stalled");
    assert_eq!(grace_ends().await, 14_400.0, "no key depends on the grace");

    // From here on the read replica is stalled, while its primary continues.
    region.at_primary.revoke_key(&known_id).await;
    let mut fresh_seconds = 0;
    for second in 0..20 {
        region.advance_one_second().await;
        let (verdict, source) = region.validate_at_read_replica(&known).await;
        assert_eq!(verdict, Verdict::Valid, "the revocation cannot be known yet");
        if source != Source::Stale {
            fresh_seconds = second;
        }
    }
    assert!(fresh_seconds <= 10, "after {fresh_seconds} s the answer was still fresh");
    assert!(stall().await >= 15.0);
    assert!(grace_ends().await <= 14_400.0 - 15.0, "the grace counts from the start of the stall");
    assert!(
        region.at_read_replica.running.feed().poll().await.is_err(),
        "the feed is not live: subscribers get no heartbeat"
    );
    assert_eq!(
        outcome(&region.at_read_replica.validate(&unknown_key()).await),
        "Unavailable",
        "a negative entry from before the stall is not used"
    );
    assert_eq!(
        region.validate_at_read_replica(&cold).await,
        (Verdict::Valid, Source::Stale),
        "a record from before the stall is served stale"
    );
    let verbose = http_request(ops, "GET /readyz?verbose").await.unwrap().body;
    assert!(verbose.contains("\ndatabase  the read replica has been stalled for "), "{verbose}");

    region.read_replica.catch_up().await.unwrap();
    region.at_read_replica.poll_feed().await;
    assert_eq!(region.validate_at_read_replica(&known).await.0, Verdict::Revoked);
    assert_eq!(outcome(&region.at_read_replica.validate(&unknown_key()).await), "VERDICT_UNKNOWN");
}

/// The link from the read replica to its primary is broken, so neither changes nor queries reach the primary.
#[tokio::test]
async fn read_replica_cut_off_from_primary_counts_as_outage() {
    let region = PrimaryAndReadReplica::start().await;
    let (known, _) = region.at_primary.issue_key(&region.tenant, &[]).await;
    region.poll_both_feeds().await;
    assert_eq!(region.validate_at_read_replica(&known).await.0, Verdict::Valid);
    region.read_replica.set_partitioned(true);
    region.clock.advance(Duration::from_secs(1));
    region.at_read_replica.poll_feed().await;
    for _ in 0..4 {
        assert!(region.at_read_replica.running.beat_if_due().await.is_err(), "the primary is unreachable");
        region.clock.advance(Duration::from_secs(1));
        let _ = region.at_read_replica.running.feed().poll().await;
    }
    region.clock.advance(Duration::from_secs(7));
    assert_eq!(region.validate_at_read_replica(&known).await, (Verdict::Valid, Source::Stale));
    assert_eq!(outcome(&region.at_read_replica.validate(&unknown_key()).await), "Unavailable");

    region.read_replica.set_partitioned(false);
    region.advance_one_second().await;
    region.read_replica.catch_up().await.unwrap();
    region.at_read_replica.poll_feed().await;
    assert_eq!(outcome(&region.at_read_replica.validate(&unknown_key()).await), "VERDICT_UNKNOWN");
}

/// The primary accepts no writes, so no heartbeat can be written, but it still answers reads.
#[tokio::test]
async fn read_only_primary_does_not_make_read_replica_stalled() {
    for fault in [Fault::blocked(), Fault::Hang] {
        let region = PrimaryAndReadReplica::start().await;
        let (key, key_id) = region.at_primary.issue_key(&region.tenant, &[]).await;
        region.poll_both_feeds().await;
        for server in [region.primary.server(), &region.read_replica] {
            server.faults().set_writes(fault.clone());
        }
        for second in 0..6 {
            region.clock.advance(Duration::from_secs(1));
            // One heartbeat attempt is enough, because each takes a while to fail.
            if second < 1 {
                let _ = region.at_read_replica.running.beat_if_due().await;
            }
            region.at_read_replica.poll_feed().await;
        }
        assert_eq!(
            outcome(&region.at_read_replica.validate(&unknown_key()).await),
            "VERDICT_UNKNOWN",
            "{fault:?}"
        );
        let revoke = format!("UPDATE api_keys SET revoked_at = 1 WHERE id = '{key_id}'");
        region.primary.server().execute(&revoke).unwrap();
        region.poll_read_replica_feed().await;
        assert_eq!(region.validate_at_read_replica(&key).await.0, Verdict::Revoked, "{fault:?}");
    }
}

/// The primary commits a heartbeat late: the read replica has had no time yet to show it.
#[tokio::test]
async fn slow_primary_does_not_make_read_replica_stalled() {
    let region = PrimaryAndReadReplica::start().await;
    region.clock.advance(Duration::from_secs(1));
    region.poll_read_replica_feed().await;
    let (server, write) = (&region.read_replica, "UPDATE heartbeat");
    let before = server.requests_with(write);
    server.faults().set_where(write, u64::MAX, Fault::Hang);
    let slowly = async {
        while server.requests_with(write) == before {
            tokio::task::yield_now().await;
        }
        region.clock.advance(Duration::from_secs(4));
        server.faults().clear();
    };
    tokio::join!(region.at_read_replica.running.beat_if_due(), slowly).0.unwrap();
    region.at_read_replica.running.feed().poll().await.unwrap();

    // From then on it has three seconds.
    region.clock.advance(Duration::from_secs(3));
    region.at_read_replica.running.feed().poll().await.unwrap_err();
}

/// The read replica shows a write of the primary later. The writer waits for that, and does not fail because
/// the write is not visible yet.
#[tokio::test]
async fn migration_waits_until_lagging_read_replica_shows_schema() {
    let primary = TestDatabase::test_server().await;
    let read_replica =
        HranaServer::builder().token(TOKEN).replica_of(primary.server()).start().await.unwrap();
    let settings = || primary.settings().with_flag("TENANT_AUTH_DATABASE_URL", Some(read_replica.url()));
    let mut service = TestService::start_unready(settings(), SystemClock::shared()).await;
    let versions =
        || primary.server().query("SELECT count(*) FROM sqlite_master WHERE name = 'schema_migrations'");
    while versions().unwrap()[0][0]["value"] != "1" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The read replica shows each part of the schema some time after it was created.
    let catching_up = async {
        loop {
            read_replica.catch_up().await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        ready = service.running.wait_until_ready() => ready.unwrap(),
        () = catching_up => {}
        () = tokio::time::sleep(Duration::from_secs(60)) => panic!("the replica must become ready"),
    }
}

/// There is one heartbeat per second, however many replicas run, and each writes one row.
#[tokio::test]
async fn heartbeat_writes_one_row_per_second_for_all_replicas() {
    let region = PrimaryAndReadReplica::start().await;
    let beat = || region.primary.server().query("SELECT beat FROM heartbeat").unwrap()[0][0]["value"].clone();
    let number = |value: serde_json::Value| value.as_str().unwrap().parse::<i64>().unwrap();
    let before = number(beat());
    for _ in 0..10 {
        region.advance_one_second().await;
        region.read_replica.catch_up().await.unwrap();
    }
    let beats = number(beat()) - before;
    assert!((1..=10).contains(&beats), "{beats}");
}

/// A database whose clock was set back still produces heartbeats. Without them, a stalled read replica could
/// not be detected.
#[tokio::test]
async fn stalled_read_replica_is_detected_after_database_clock_set_back() {
    let region = PrimaryAndReadReplica::start().await;
    region.advance_one_second().await;
    region.clock.jump_to(UnixMillis(region.clock.now().0 - 3_600_000));
    region.poll_both_feeds().await;
    for _ in 0..6 {
        region.advance_one_second().await;
    }
    assert!(region.at_read_replica.running.feed().poll().await.is_err(), "the read replica is stalled");
}

/// A lookup waits for each key that the read replica does not show yet; the keys of a batch wait together.
#[tokio::test]
async fn batch_waits_for_lagging_read_replica_no_longer_than_single_key() {
    let region = PrimaryAndReadReplica::start().await;
    let mut keys = Vec::new();
    for _ in 0..12 {
        let (key, key_id) = region.at_read_replica.issue_key(&region.tenant, &[]).await;
        let rotate = v1::RotateKeyRequest { key_id, ..Default::default() };
        region.at_read_replica.admin().rotate_key(rotate).await.unwrap();
        keys.push(key);
    }
    let requests =
        keys.iter().map(|key| v1::ValidateKeyRequest { key: key.clone(), ..Default::default() }).collect();
    let before = region.read_replica.requests_with("AS digests");
    let request = v1::BatchValidateKeysRequest { requests };
    region.at_read_replica.validation().batch_validate_keys(request).await.unwrap();
    // Every 50 ms for half a second, the first key alone and the others together. One after the other, this
    // would be 96 queries.
    let queries = region.read_replica.requests_with("AS digests") - before;
    assert!((2..=60).contains(&queries), "{queries}");
}

/// The read replica delivers, late, a change that is older than the replica's own. It says nothing about
/// changes after it.
#[tokio::test]
async fn own_revocation_survives_older_change_event_of_lagging_read_replica() {
    let region = PrimaryAndReadReplica::start().await;
    let (key, key_id) = region.at_read_replica.issue_key(&region.tenant, &["a"]).await;
    let (other, _) = region.at_read_replica.issue_key(&region.tenant, &[]).await;
    region.poll_both_feeds().await;
    let primary = region.primary.server();
    primary.execute(&format!("UPDATE api_keys SET scopes = '[]' WHERE id = '{key_id}'")).unwrap();
    primary.execute(&format!("UPDATE tenants SET plan = 'max' WHERE id = '{}'", region.tenant)).unwrap();
    region.read_replica.catch_up().await.unwrap();
    region.at_read_replica.revoke_key(&key_id).await;
    let suspend = v1::SuspendTenantRequest { tenant_id: region.tenant.clone(), reason: "unpaid".to_owned() };
    region.at_read_replica.admin().suspend_tenant(suspend.clone()).await.unwrap();
    region.at_read_replica.poll_feed().await;
    assert_eq!(outcome(&region.at_read_replica.validate(&key).await), "VERDICT_REVOKED");
    assert_eq!(outcome(&region.at_read_replica.validate(&other).await), "VERDICT_TENANT_SUSPENDED");

    // A further attempt that fails does not change that either.
    region.read_replica.faults().set_writes(Fault::blocked());
    assert!(region.at_read_replica.admin().suspend_tenant(suspend).await.is_err());
    assert_eq!(outcome(&region.at_read_replica.validate(&other).await), "VERDICT_TENANT_SUSPENDED");
}
