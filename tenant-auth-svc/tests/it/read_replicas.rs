//! A service that reads from a read replica of the database which lags or is stalled.

mod stalled;

use std::time::Duration;

use tenant_auth_proto::v1;
use tenant_auth_svc::domain::clock::SystemClock;
use tenant_auth_testkit::{Fault, HranaServer};

use crate::harness::{TOKEN, TestDatabase, TestService, outcome, read_replica::PrimaryAndReadReplica};

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
    there.admin().resume_tenant(v1::ResumeTenantRequest { tenant_id, ..Default::default() }).await.unwrap();
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
