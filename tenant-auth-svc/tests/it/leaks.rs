//! Keys that are reported as leaked.

mod secret_scanning;

use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tenant_auth_proto::v1::{self, LeakAction, Verdict};
use tenant_auth_svc::domain::clock::SystemClock;
use tenant_auth_testkit::{Fault, Random};
use tonic::Status;

use crate::harness::{
    TestDatabase, TestService,
    scrape::Scrape,
    unknown_key,
    updates::{enable, mask, update},
    violated_fields,
};

async fn report(
    service: &TestService,
    request: v1::ReportLeakRequest,
) -> Result<v1::ReportLeakResponse, Status> {
    Ok(service.admin().report_leak(request).await?.into_inner())
}

fn leak_of(key: &str) -> v1::ReportLeakRequest {
    v1::ReportLeakRequest {
        plaintext: key.to_owned(),
        source: "github".to_owned(),
        location: "https://example.com/repo/blob/main/.env".to_owned(),
        r#type: "ta_key".to_owned(),
        ..Default::default()
    }
}

async fn set_policy(service: &TestService, tenant: &str, policy: Option<v1::LeakPolicy>) -> v1::Tenant {
    let request = v1::UpdateTenantRequest {
        tenant_id: tenant.to_owned(),
        update_mask: mask(&["leak_policy"]),
        leak_policy: policy,
        ..Default::default()
    };
    service.admin().update_tenant(request).await.unwrap().into_inner().tenant.unwrap()
}

async fn events(service: &TestService, target: &str, action: &str) -> Vec<Value> {
    let request = v1::ListAuditEventsRequest { target: target.to_owned(), ..Default::default() };
    let events = service.admin().list_audit_events(request).await.unwrap().into_inner().events;
    let of_action = events.into_iter().filter(|event| event.action == action);
    let detail = |event: v1::AuditEvent| {
        let mut detail: Value = serde_json::from_str(&event.detail).unwrap();
        // A random id.
        if let Some(report) = detail.get_mut("report") {
            *report = Value::Null;
        }
        detail
    };
    of_action.map(detail).collect()
}

#[tokio::test]
async fn leaked_key_is_disabled_once_per_source() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let tenant = service.create_tenant("Acme").await;
        let (key, id) = service.issue_key(&tenant, &[]).await;
        let first = report(&service, leak_of(&key)).await.unwrap();
        assert!(first.known && !first.already_reported, "{}", database.name());
        assert_eq!((first.action(), first.key.unwrap().enabled), (LeakAction::Disable, false));
        assert!(first.revision > 0);
        assert_eq!(service.validate(&key).await.unwrap().verdict(), Verdict::Disabled);

        // After an operator has enabled it, the same report again has no effect.
        update(&service, enable(&id, true)).await.unwrap();
        let by_hash = v1::ReportLeakRequest {
            plaintext: String::new(),
            sha256: Sha256::digest(&key).to_vec(),
            ..leak_of(&key)
        };
        for again in [leak_of(&key), by_hash.clone()] {
            let again = report(&service, again).await.unwrap();
            assert!(again.known && again.already_reported);
            assert_eq!((again.action(), again.key.unwrap().enabled), (LeakAction::Disable, true));
        }
        let other = v1::ReportLeakRequest { source: "a customer".to_owned(), ..by_hash };
        assert!(!report(&service, other).await.unwrap().key.unwrap().enabled);
        let expected = |source: &str| {
            json!({
                "reason": format!("found by {source}"),
                "report": null,
                "location": "https://example.com/repo/blob/main/.env",
                "type": "ta_key",
                "policy": "disable",
                "after": { "enabled": false },
            })
        };
        assert_eq!(events(&service, &id, "key.leak").await, [expected("a customer"), expected("github")]);
    }
}

#[tokio::test]
async fn policy_of_the_tenant_decides() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let tenant = service.create_tenant("Acme").await;
        let notify = v1::LeakPolicy { action: LeakAction::Notify.into(), expire_in: None };
        assert_eq!(set_policy(&service, &tenant, Some(notify)).await.leak_policy, Some(notify));
        let (key, id) = service.issue_key(&tenant, &[]).await;
        let noted = report(&service, leak_of(&key)).await.unwrap();
        assert_eq!((noted.action(), noted.key.unwrap().enabled), (LeakAction::Notify, true));
        assert_eq!(service.validate(&key).await.unwrap().verdict(), Verdict::Valid);
        assert_eq!(events(&service, &id, "key.leak").await[0]["after"], json!({}));

        let hour = Some(prost_types::Duration { seconds: 3_600, nanos: 0 });
        let expire = v1::LeakPolicy { action: LeakAction::Expire.into(), expire_in: hour };
        assert_eq!(set_policy(&service, &tenant, Some(expire)).await.leak_policy, Some(expire));
        let (key, id) = service.issue_key(&tenant, &[]).await;
        let before = std::time::SystemTime::now();
        let expiring = report(&service, leak_of(&key)).await.unwrap();
        assert_eq!(expiring.action(), LeakAction::Expire);
        let expires_at = std::time::SystemTime::try_from(expiring.key.unwrap().expires_at.unwrap()).unwrap();
        let delay = expires_at.duration_since(before).unwrap();
        assert!((Duration::from_secs(3_590)..Duration::from_secs(3_660)).contains(&delay), "{delay:?}");
        assert!(events(&service, &id, "key.leak").await[0]["after"]["expires_at"].is_i64());

        assert_eq!(set_policy(&service, &tenant, None).await.leak_policy, None);
        let details = events(&service, &tenant, "tenant.update").await;
        assert_eq!(
            details[0],
            json!({ "before": { "leak_policy": "expire:3600000" }, "after": { "leak_policy": null } })
        );
    }
}

#[tokio::test]
async fn default_policy_is_configured() {
    let database = TestDatabase::test_server().await;
    let settings = database.settings().with_flag("TENANT_AUTH_LEAK_POLICY", Some("notify".to_owned()));
    let service = TestService::start_with(settings, SystemClock::shared()).await;
    let (key, _) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;
    assert_eq!(report(&service, leak_of(&key)).await.unwrap().action(), LeakAction::Notify);
}

#[tokio::test]
async fn unknown_key_is_not_recorded() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    for key in [&*unknown_key(), "ta_nonsense", "x"] {
        assert_eq!(report(&service, leak_of(key)).await.unwrap(), v1::ReportLeakResponse::default());
    }
    let (key, _) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;
    report(&service, leak_of(&key)).await.unwrap();
    report(&service, leak_of(&key)).await.unwrap();
    let scrape = Scrape::collect(&service).await;
    for (effect, count) in [("disable", 1.0), ("already_reported", 1.0), ("unknown_key", 2.0)] {
        scrape.assert_value(&format!("tenant_auth_leak_reports_total{{effect=\"{effect}\"}}"), count);
    }
}

#[tokio::test]
async fn lost_response_to_report_changes_nothing_twice() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    for fault in [Fault::ResetAfterCommit, Fault::ResetBeforeExecute] {
        let (key, id) = service.issue_key(&tenant, &[]).await;
        database.server().faults().set_for(1, fault.clone());
        let reported = report(&service, leak_of(&key)).await.unwrap();
        assert!(reported.known && !reported.already_reported, "{fault:?}");
        assert_eq!(events(&service, &id, "key.leak").await.len(), 1, "{fault:?}");
    }
}

/// Reports arrive more than once and in any order: each key is disabled once.
#[tokio::test]
async fn replayed_and_reordered_reports_disable_each_key_once() {
    let database = TestDatabase::embedded();
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let keys: Vec<_> = (0..1_000).map(|_| unknown_key()).collect();
    for page in keys.chunks(500) {
        let import = |key: &String| v1::ImportKey {
            tenant_id: tenant.clone(),
            sha256: Sha256::digest(key).to_vec(),
            ..Default::default()
        };
        let keys = page.iter().map(import).collect();
        service.admin().import_keys(v1::ImportKeysRequest { keys }).await.unwrap();
    }
    let mut reports: Vec<_> = keys.iter().chain(&keys).collect();
    let mut random = Random::new(7);
    for last in (1..reports.len()).rev() {
        reports.swap(last, random.below(last + 1));
    }
    let mut effects = 0;
    for key in reports {
        let reported = report(&service, leak_of(key)).await.unwrap();
        assert!(reported.known && !reported.key.unwrap().enabled);
        effects += usize::from(!reported.already_reported);
    }
    assert_eq!(effects, keys.len());
    let scrape = Scrape::collect(&service).await;
    scrape.assert_value("tenant_auth_leak_reports_total{effect=\"disable\"}", 1_000.0);
    scrape.assert_value("tenant_auth_leak_reports_total{effect=\"already_reported\"}", 1_000.0);
    // The etag is the number of changes since the import.
    let request = v1::ListKeysRequest { tenant_id: tenant, page_size: 500, ..Default::default() };
    let listed = service.admin().list_keys(request).await.unwrap().into_inner().keys;
    assert!(listed.iter().all(|key| key.etag == "v2"), "each key was changed once");
}

#[tokio::test]
async fn invalid_report_names_its_fields() {
    let service = TestService::start(&TestDatabase::test_server().await).await;
    let invalid = [
        (v1::ReportLeakRequest::default(), vec!["sha256", "source"]),
        (v1::ReportLeakRequest { sha256: vec![1; 32], ..leak_of("a-key-of-a-customer") }, vec!["sha256"]),
        (
            v1::ReportLeakRequest {
                location: "KEY=a-key-of-a-customer".to_owned(),
                ..leak_of("a-key-of-a-customer")
            },
            vec!["location"],
        ),
        (
            v1::ReportLeakRequest {
                plaintext: String::new(),
                sha256: vec![1; 31],
                r#type: "x".repeat(65),
                ..leak_of("")
            },
            vec!["sha256", "type"],
        ),
    ];
    for (request, expected) in invalid {
        assert_eq!(violated_fields(report(&service, request).await.unwrap_err()), expected);
    }
    let policies = [
        (LeakAction::Expire, None, "leak_policy.expire_in"),
        (LeakAction::Expire, Some(5), "leak_policy.expire_in"),
        (LeakAction::Disable, Some(3_600), "leak_policy.expire_in"),
    ];
    for (action, seconds, field) in policies {
        let expire_in = seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
        let request = v1::UpdateTenantRequest {
            tenant_id: "ten_1".to_owned(),
            update_mask: mask(&["leak_policy"]),
            leak_policy: Some(v1::LeakPolicy { action: action.into(), expire_in }),
            ..Default::default()
        };
        let refused = service.admin().update_tenant(request).await.unwrap_err();
        assert_eq!(violated_fields(refused), [field]);
    }
}
