//! Changes of existing tenants and keys: name, plan, scopes, expiry, and whether a key is enabled.

mod deletion;
mod networks;
mod paused;

use prost_types::Timestamp;
use serde_json::json;
use tenant_auth_proto::v1::{self, Verdict};
use tenant_auth_testkit::Fault;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{
    NOW, TestDatabase, TestService, owned,
    replicas::{Replicas, applied_revision, cached_keys},
    updates::{audit_details, enable, key_update, mask, update},
    violated_fields,
};

#[tokio::test]
async fn key_is_renamed_narrowed_paused_and_resumed() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let tenant = service.create_tenant("Acme").await;
        let (key, id) = service.issue_key(&tenant, &["a", "b"]).await;
        assert_eq!(service.validate_for(&key, &["b"]).await.unwrap().verdict(), Verdict::Valid);

        let narrow = v1::UpdateKeyRequest {
            name: "narrow".to_owned(),
            scopes: owned(&["a"]),
            ..key_update(&id, &["name", "scopes"])
        };
        for _ in 0..2 {
            let key = update(&service, narrow.clone()).await.unwrap();
            assert_eq!((&*key.name, &key.scopes), ("narrow", &owned(&["a"])));
        }
        let lacking = service.validate_for(&key, &["b"]).await.unwrap();
        assert_eq!((lacking.verdict(), lacking.missing_scopes), (Verdict::InsufficientScope, owned(&["b"])));

        let paused = update(&service, enable(&id, false)).await.unwrap();
        assert!(!paused.enabled && paused.disabled_at.is_some());
        assert_eq!(update(&service, enable(&id, false)).await.unwrap(), paused, "the first time is kept");
        let denied = service.validate(&key).await.unwrap();
        assert_eq!((denied.verdict(), &*denied.key_id), (Verdict::Disabled, &*id));
        let state = service.admin().get_key(v1::GetKeyRequest { key_id: id.clone() }).await.unwrap();
        assert_eq!(state.into_inner().verdict(), Verdict::Disabled);
        let resumed = update(&service, enable(&id, true)).await.unwrap();
        assert_eq!((resumed.enabled, resumed.disabled_at), (true, None));
        assert_eq!(service.validate(&key).await.unwrap().verdict(), Verdict::Valid);

        // One entry for each change that had an effect, with the values before and after.
        let expected = [
            json!({
                "before": { "name": "test", "scopes": ["a", "b"] },
                "after": { "name": "narrow", "scopes": ["a"] },
            }),
            json!({ "before": { "enabled": true }, "after": { "enabled": false }, "reason": "test" }),
            json!({ "before": { "enabled": false }, "after": { "enabled": true }, "reason": "test" }),
        ];
        assert_eq!(audit_details(&service, &id, "key.update").await, expected, "{}", database.name());
    }
}

#[tokio::test]
async fn new_expiry_applies_at_once_and_can_be_removed() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let (key, id) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;
        let expire = |seconds: Option<i64>| v1::UpdateKeyRequest {
            expires_at: seconds.map(|seconds| Timestamp { seconds, nanos: 0 }),
            ..key_update(&id, &["expires_at"])
        };
        for (seconds, verdict) in
            [(Some(4_000_000_000), Verdict::Valid), (Some(1), Verdict::Expired), (None, Verdict::Valid)]
        {
            let changed = update(&service, expire(seconds)).await.unwrap();
            assert_eq!(changed.expires_at.map(|at| at.seconds), seconds);
            let response = service.validate(&key).await.unwrap();
            assert_eq!((response.verdict(), response.expires_at), (verdict, changed.expires_at));
        }
    }
}

#[tokio::test]
async fn tenant_update_reaches_validation() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let tenant = service.create_tenant("Acme").await;
        let (key, _) = service.issue_key(&tenant, &[]).await;
        assert_eq!(service.validate(&key).await.unwrap().plan, "pro");
        let request = |plan: &str| v1::UpdateTenantRequest {
            tenant_id: tenant.clone(),
            update_mask: mask(&["plan"]),
            name: "not named by the mask".to_owned(),
            plan: plan.to_owned(),
            ..Default::default()
        };
        for plan in ["enterprise", "enterprise", ""] {
            let changed = service.admin().update_tenant(request(plan)).await.unwrap().into_inner();
            let changed = changed.tenant.unwrap();
            assert_eq!((&*changed.name, &*changed.plan), ("Acme", plan));
            let response = service.validate(&key).await.unwrap();
            assert_eq!((&*response.tenant_name, &*response.plan), ("Acme", plan));
        }
        let details = audit_details(&service, &tenant, "tenant.update").await;
        let expected = [
            json!({ "before": { "plan": "pro" }, "after": { "plan": "enterprise" } }),
            json!({ "before": { "plan": "enterprise" }, "after": { "plan": "" } }),
        ];
        assert_eq!(details, expected);
        let missing = v1::UpdateTenantRequest { tenant_id: "ten_nobody".to_owned(), ..request("x") };
        let missing = service.admin().update_tenant(missing).await.unwrap_err();
        assert_eq!(missing.code(), Code::NotFound);
    }
}

/// The version changes with every change, by any writer, so an update based on an old one is refused.
#[tokio::test]
async fn update_based_on_old_version_is_aborted() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let (_, id) = service.issue_key(&tenant, &["a"]).await;
    let get = async || {
        let key = service.admin().get_key(v1::GetKeyRequest { key_id: id.clone() }).await.unwrap();
        key.into_inner().key.unwrap()
    };
    let read = get().await;
    let change_with_sql = format!("UPDATE api_keys SET scopes = '[\"a\",\"b\"]' WHERE id = '{id}'");
    database.server().execute(&change_with_sql).unwrap();
    let add = |etag: &str| v1::UpdateKeyRequest {
        scopes: owned(&["a", "c"]),
        etag: etag.to_owned(),
        ..key_update(&id, &["scopes"])
    };
    let aborted = update(&service, add(&read.etag)).await.unwrap_err();
    let current = get().await;
    assert_eq!((aborted.code(), &current.scopes), (Code::Aborted, &owned(&["a", "b"])));
    let details = aborted.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!((&*info.reason, info.metadata.get("etag")), ("ETAG_MISMATCH", Some(&current.etag)));
    assert!(aborted.message().contains(&current.etag), "{aborted:?}");

    let changed = update(&service, add(&current.etag)).await.unwrap();
    assert_eq!(changed.scopes, owned(&["a", "c"]));
    assert_ne!(changed.etag, current.etag);
    // A repeat after a lost response has an old etag, and finds its own values.
    assert_eq!(update(&service, add(&current.etag)).await.unwrap(), changed);

    let update_tenant = |etag: &str, plan: &str| v1::UpdateTenantRequest {
        tenant_id: tenant.clone(),
        update_mask: mask(&["plan"]),
        plan: plan.to_owned(),
        etag: etag.to_owned(),
        ..Default::default()
    };
    let first =
        service.admin().update_tenant(update_tenant("", "a")).await.unwrap().into_inner().tenant.unwrap();
    let second = service.admin().update_tenant(update_tenant(&first.etag, "b")).await.unwrap().into_inner();
    let aborted = service.admin().update_tenant(update_tenant(&first.etag, "c")).await.unwrap_err();
    assert_eq!(aborted.code(), Code::Aborted);
    assert_eq!(second.tenant.unwrap().plan, "b");
}

#[tokio::test]
async fn lost_response_to_update_changes_nothing_twice() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let (_, id) = service.issue_key(&tenant, &["a"]).await;
    let read = service.admin().get_key(v1::GetKeyRequest { key_id: id.clone() }).await.unwrap();
    let etag = read.into_inner().key.unwrap().etag;
    for fault in [Fault::ResetAfterCommit, Fault::ResetBeforeExecute] {
        database.server().faults().set_for(1, fault.clone());
        let narrow = v1::UpdateKeyRequest { etag: etag.clone(), ..key_update(&id, &["scopes"]) };
        assert_eq!(update(&service, narrow).await.unwrap().scopes, owned(&[]), "{fault:?}");
        database.server().faults().set_for(1, fault.clone());
        update(&service, enable(&id, false)).await.unwrap();
        database.server().faults().set_for(1, fault.clone());
        let request = v1::UpdateTenantRequest {
            tenant_id: tenant.clone(),
            update_mask: mask(&["name", "plan"]),
            name: "Other".to_owned(),
            ..Default::default()
        };
        service.admin().update_tenant(request).await.unwrap();
    }
    assert_eq!(audit_details(&service, &id, "key.update").await.len(), 2);
    assert_eq!(audit_details(&service, &tenant, "tenant.update").await.len(), 1);
}

#[tokio::test]
async fn revoked_or_missing_key_is_not_updated() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let (_, id) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;
    service.revoke_key(&id).await;
    for request in [enable(&id, false), key_update(&id, &["scopes"])] {
        let refused = update(&service, request).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert_eq!(refused.get_error_details().error_info().unwrap().reason, "KEY_REVOKED");
    }
    assert_eq!(update(&service, enable("key_nobody", true)).await.unwrap_err().code(), Code::NotFound);
    assert!(audit_details(&service, &id, "key.update").await.is_empty());
}

#[tokio::test]
async fn invalid_update_names_its_fields() {
    let service = TestService::start(&TestDatabase::test_server().await).await;
    for (request, expected) in [
        (v1::UpdateKeyRequest::default(), vec!["key_id", "update_mask"]),
        (key_update("key_1", &["name", "plan", "*"]), vec!["update_mask.paths[1]", "update_mask.paths[2]"]),
        (
            v1::UpdateKeyRequest { scopes: owned(&["a", "B!"]), ..key_update("key_1", &["scopes"]) },
            vec!["scopes[1]"],
        ),
        (
            v1::UpdateKeyRequest {
                etag: "\"1\"".to_owned(),
                reason: "x".repeat(257),
                ..key_update("key_1", &["enabled"])
            },
            vec!["etag", "reason"],
        ),
    ] {
        assert_eq!(violated_fields(update(&service, request).await.unwrap_err()), expected);
    }
    let request = v1::UpdateTenantRequest { update_mask: mask(&["name"]), ..Default::default() };
    let refused = service.admin().update_tenant(request).await.unwrap_err();
    assert_eq!(violated_fields(refused), ["tenant_id", "name"]);
}

#[tokio::test]
async fn successor_keeps_expiry_unless_told_otherwise() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let tenant = service.create_tenant("Acme").await;
        let end = Timestamp { seconds: NOW.0 / 1_000 + 86_400 * 365, nanos: 0 };
        let later = Timestamp { seconds: end.seconds + 86_400, ..end };
        for (expires_at, no_expiry, expected) in
            [(None, false, Some(end)), (Some(later), false, Some(later)), (None, true, None)]
        {
            let (_, id) = service.issue_key(&tenant, &["a"]).await;
            let expire = v1::UpdateKeyRequest { expires_at: Some(end), ..key_update(&id, &["expires_at"]) };
            update(&service, expire).await.unwrap();
            let rotate = v1::RotateKeyRequest { key_id: id, expires_at, no_expiry, ..Default::default() };
            let rotated = service.admin().rotate_key(rotate).await.unwrap().into_inner();
            let successor = rotated.key.unwrap();
            assert_eq!((successor.expires_at, &*successor.name), (expected, "test"), "{}", database.name());
            assert_eq!(service.validate(&rotated.plaintext).await.unwrap().expires_at, expected);
        }
        let both = v1::RotateKeyRequest {
            key_id: "key_1".to_owned(),
            expires_at: Some(end),
            no_expiry: true,
            ..Default::default()
        };
        assert_eq!(violated_fields(service.admin().rotate_key(both).await.unwrap_err()), ["no_expiry"]);
    }
}

#[tokio::test]
async fn creating_existing_tenant_says_so_or_names_what_differs() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let id = format!("acme-{}", service.create_tenant("x").await);
        let create = async |name: &str, plan: &str| {
            let request = v1::CreateTenantRequest {
                tenant_id: id.clone(),
                name: name.to_owned(),
                plan: plan.to_owned(),
            };
            service.admin().create_tenant(request).await.map(tonic::Response::into_inner)
        };
        assert!(!create("Acme", "pro").await.unwrap().already_existed);
        assert!(create("Acme", "pro").await.unwrap().already_existed);
        for (name, plan, fields) in
            [("Other", "pro", "name"), ("Acme", "", "plan"), ("Other", "", "name,plan")]
        {
            let refused = create(name, plan).await.unwrap_err();
            assert_eq!(refused.code(), Code::AlreadyExists);
            let details = refused.get_error_details();
            assert_eq!(details.error_info().unwrap().metadata["differing_fields"], fields);
            assert!(fields.split(',').all(|field| refused.message().contains(field)), "{refused:?}");
        }
    }
}

/// A replica that has read a change's revision applies the change.
#[tokio::test]
async fn change_returns_revision_that_includes_it() {
    let replicas = Replicas::start().await;
    let [(key, id), (_, other)] = cached_keys(&replicas).await;
    let mut admin = replicas.first.admin();
    let reason = || "test".to_owned();
    let before = applied_revision(&replicas.second).await;
    let paused = admin.update_key(enable(&id, false)).await.unwrap().into_inner().revision;
    assert!(paused > before);
    replicas.poll_second().await;
    assert_eq!(applied_revision(&replicas.second).await, paused);
    assert_eq!(replicas.validate_on_second(&key).await.0, Verdict::Disabled);

    let suspend = v1::SuspendTenantRequest { tenant_id: replicas.tenant.clone(), reason: reason() };
    let resume = v1::ResumeTenantRequest { tenant_id: replicas.tenant.clone(), ..Default::default() };
    let revisions = [
        paused,
        admin
            .revoke_key(v1::RevokeKeyRequest { key_id: other, reason: reason() })
            .await
            .unwrap()
            .into_inner()
            .revision,
        admin.suspend_tenant(suspend).await.unwrap().into_inner().revision,
        admin.resume_tenant(resume).await.unwrap().into_inner().revision,
    ];
    assert!(revisions.is_sorted_by(|earlier, later| earlier < later), "{revisions:?}");
    let repeated = admin.update_tenant(v1::UpdateTenantRequest {
        tenant_id: replicas.tenant.clone(),
        update_mask: mask(&["plan"]),
        plan: "pro".to_owned(),
        ..Default::default()
    });
    let repeated = repeated.await.unwrap().into_inner().revision;
    assert_eq!(repeated, revisions[3], "a change without effect returns the end of the log");
}
