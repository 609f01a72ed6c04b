//! Changes: of tenants, keys, sessions, usage and limits.

use prost_types::{Duration, FieldMask};
use tenant_auth_proto::v1::{self, SessionExpiry};

use crate::harness::{
    limits::{consume, limit_of, limit_state, per_day, store_limit},
    scale::{FilledDatabase, LARGE_TENANT, SMALL_TENANT, small_key},
    sessions::{bind_session, session_client},
    usage::{record_usage, usage_event},
};

pub(super) async fn run(filled: &mut FilledDatabase) {
    run_tenants(filled).await;
    run_keys(filled).await;
    run_sessions(filled).await;
    run_usage(filled).await;
    run_deletion(filled).await;
    // Last: a replica goes on exchanging leases by itself.
    run_limits(filled).await;
}

async fn run_tenants(filled: &mut FilledDatabase) {
    filled.measure("create a tenant", async |service| service.create_tenant("New").await).await;
    let (tenant_id, reason) = (LARGE_TENANT.to_owned(), "test".to_owned());
    filled
        .measure("rename a tenant", async |service| {
            let request = v1::UpdateTenantRequest {
                tenant_id: tenant_id.clone(),
                update_mask: Some(FieldMask { paths: vec!["name".to_owned()] }),
                name: "Larger".to_owned(),
                ..Default::default()
            };
            service.admin().update_tenant(request).await.unwrap();
        })
        .await;
    filled
        .measure("suspend a tenant", async |service| {
            let request = v1::SuspendTenantRequest { tenant_id: tenant_id.clone(), reason: reason.clone() };
            service.admin().suspend_tenant(request).await.unwrap();
        })
        .await;
    filled
        .measure("resume a tenant", async |service| {
            let request = v1::ResumeTenantRequest { tenant_id: tenant_id.clone(), reason: reason.clone() };
            service.admin().resume_tenant(request).await.unwrap();
        })
        .await;
}

async fn run_keys(filled: &mut FilledDatabase) {
    let (_, key_id) =
        filled.measure("issue a key", async |service| service.issue_key(LARGE_TENANT, &["a"]).await).await;
    filled
        .measure("change a key's scopes", async |service| {
            let request = v1::UpdateKeyRequest {
                key_id: key_id.clone(),
                update_mask: Some(FieldMask { paths: vec!["scopes".to_owned()] }),
                scopes: vec!["b".to_owned()],
                ..Default::default()
            };
            service.admin().update_key(request).await.unwrap();
        })
        .await;
    let successor = filled
        .measure("rotate a key", async |service| {
            let overlap = Some(Duration { seconds: 60, nanos: 0 });
            let request = v1::RotateKeyRequest { key_id: key_id.clone(), overlap, ..Default::default() };
            service.admin().rotate_key(request).await.unwrap().into_inner().key.unwrap().key_id
        })
        .await;
    filled.measure("revoke a key", async |service| service.revoke_key(&successor).await).await;
    filled
        .measure("import 100 keys", async |service| {
            let key = |number: u8| v1::ImportKey {
                tenant_id: SMALL_TENANT.to_owned(),
                sha256: vec![number; 32],
                ..Default::default()
            };
            let keys = (0..100).map(key).collect();
            service.admin().import_keys(v1::ImportKeysRequest { keys }).await.unwrap();
        })
        .await;
    filled
        .measure("report a leaked key", async |service| {
            let request = v1::ReportLeakRequest {
                plaintext: small_key(3),
                source: "scan".to_owned(),
                ..Default::default()
            };
            assert!(service.admin().report_leak(request).await.unwrap().into_inner().known);
        })
        .await;
}

async fn run_sessions(filled: &mut FilledDatabase) {
    filled
        .measure("bind a session", async |service| {
            bind_session(service, "new", &small_key(1), 60, SessionExpiry::Sliding).await.unwrap();
        })
        .await;
    filled
        .measure("unbind a session", async |service| {
            let request = v1::UnbindSessionRequest {
                session_id: "new".to_owned(),
                tenant_id: SMALL_TENANT.to_owned(),
                ..Default::default()
            };
            session_client(service).unbind_session(request).await.unwrap();
        })
        .await;
}

async fn run_usage(filled: &mut FilledDatabase) {
    filled
        .measure("record a usage event", async |service| {
            record_usage(service, "one", vec![usage_event(LARGE_TENANT, "calls", 1, None)]).await.unwrap();
        })
        .await;
    filled
        .measure("record 500 usage events of 100 tenants", async |service| {
            let event = |number: usize| usage_event(&format!("ten_{}", number % 100 + 1), "calls", 1, None);
            record_usage(service, "many", (0..500).map(event).collect()).await.unwrap();
        })
        .await;
}

async fn run_limits(filled: &mut FilledDatabase) {
    filled
        .measure("set a limit", async |service| {
            store_limit(service, limit_of(SMALL_TENANT, "daily", per_day(1_000))).await;
        })
        .await;
    filled.measure("get the state of limits", async |service| limit_state(service, SMALL_TENANT).await).await;
    filled
        .measure("consume, and get the first lease", async |service| {
            consume(service, &small_key(2), 1).await.unwrap();
        })
        .await;
}

/// A tenant with as many records as most have.
async fn run_deletion(filled: &mut FilledDatabase) {
    let (tenant_id, reason) = ("ten_7".to_owned(), "test".to_owned());
    let request = v1::SuspendTenantRequest { tenant_id: tenant_id.clone(), reason: reason.clone() };
    filled.service.admin().suspend_tenant(request).await.unwrap();
    filled
        .measure("delete a tenant", async |service| {
            let request = v1::DeleteTenantRequest { tenant_id, reason, delete_usage: true };
            while !service.admin().delete_tenant(request.clone()).await.unwrap().into_inner().complete {}
        })
        .await;
}
