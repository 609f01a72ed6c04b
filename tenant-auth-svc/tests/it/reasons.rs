//! Reasons that a request may give: they are in the audit log with the change.

use prost_types::Duration;
use serde_json::{Value, json};
use tenant_auth_proto::v1::{self, session_service_client::SessionServiceClient};
use tonic::{Status, transport::Channel};

use crate::harness::{TestDatabase, TestService, violated_fields};

fn sessions(service: &TestService) -> SessionServiceClient<Channel> {
    SessionServiceClient::new(service.channel.clone())
}

/// The actions and details about a target, latest first.
async fn entries(service: &TestService, target: &str) -> Vec<(String, String)> {
    let request = v1::ListAuditEventsRequest { target: target.to_owned(), ..Default::default() };
    let events = service.admin().list_audit_events(request).await.unwrap().into_inner().events;
    events.into_iter().map(|event| (event.action, event.detail)).collect()
}

fn issue(tenant: &str, reason: &str) -> v1::IssueKeyRequest {
    v1::IssueKeyRequest {
        tenant_id: tenant.to_owned(),
        name: "for {\"tests\"}".to_owned(),
        reason: reason.to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn given_reasons_are_in_the_audit_log() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let mut admin = service.admin();
        let tenant = service.create_tenant("Acme").await;

        let issued = admin.issue_key(issue(&tenant, "ticket 7")).await.unwrap().into_inner().key.unwrap();
        let rotate = v1::RotateKeyRequest {
            key_id: issued.key_id.clone(),
            reason: "yearly".to_owned(),
            ..Default::default()
        };
        let successor = admin.rotate_key(rotate).await.unwrap().into_inner().key.unwrap();
        let parsed: Vec<(String, Value)> = entries(&service, &issued.key_id)
            .await
            .into_iter()
            .map(|(action, detail)| (action, serde_json::from_str(&detail).unwrap()))
            .collect();
        let rotated = json!({ "replaced_by": successor.key_id, "reason": "yearly" });
        let expected = json!({ "name": "for {\"tests\"}", "reason": "ticket 7" });
        assert_eq!(parsed, [("key.rotate".to_owned(), rotated), ("key.issue".to_owned(), expected)]);

        let suspend = v1::SuspendTenantRequest { tenant_id: tenant.clone(), reason: "unpaid".to_owned() };
        admin.suspend_tenant(suspend).await.unwrap();
        let resume = v1::ResumeTenantRequest { tenant_id: tenant.clone(), reason: "paid".to_owned() };
        let resumed = admin.resume_tenant(resume.clone()).await.unwrap().into_inner().tenant.unwrap();
        assert_eq!(resumed.suspend_reason, "", "an active tenant has no reason to be suspended");
        admin.resume_tenant(resume).await.unwrap();
        let resumptions = entries(&service, &tenant).await;
        assert_eq!(resumptions[0], ("tenant.resume".to_owned(), "paid".to_owned()));
        assert_eq!(resumptions[1], ("tenant.suspend".to_owned(), "unpaid".to_owned()), "one entry a change");
    }
}

#[tokio::test]
async fn changes_without_reason_are_recorded_as_before() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let issued = service.admin().issue_key(issue(&tenant, "")).await.unwrap().into_inner().key.unwrap();
    let rotate = v1::RotateKeyRequest { key_id: issued.key_id.clone(), ..Default::default() };
    let successor = service.admin().rotate_key(rotate).await.unwrap().into_inner().key.unwrap();
    let expected = [
        ("key.rotate".to_owned(), format!("replaced by {}", successor.key_id)),
        ("key.issue".to_owned(), "for {\"tests\"}".to_owned()),
    ];
    assert_eq!(entries(&service, &issued.key_id).await, expected);
}

#[tokio::test]
async fn unbinding_with_a_reason_is_recorded_once_and_without_one_never() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let tenant = service.create_tenant("Acme").await;
        let (key, _) = service.issue_key(&tenant, &[]).await;
        for (id, reason, recorded) in [("s-1", "stolen laptop", true), ("s-2", "", false)] {
            let bind = v1::BindSessionRequest {
                session_id: id.to_owned(),
                key: key.clone(),
                ttl: Some(Duration { seconds: 600, nanos: 0 }),
                ..Default::default()
            };
            sessions(&service).bind_session(bind).await.unwrap();
            let unbind = v1::UnbindSessionRequest {
                session_id: id.to_owned(),
                tenant_id: tenant.clone(),
                reason: reason.to_owned(),
            };
            let first = sessions(&service).unbind_session(unbind.clone()).await.unwrap().into_inner();
            let second = sessions(&service).unbind_session(unbind).await.unwrap().into_inner();
            assert_eq!((first.was_bound, second.was_bound), (true, false));
            let expected = recorded.then(|| ("session.unbind".to_owned(), reason.to_owned()));
            assert_eq!(entries(&service, id).await, Vec::from_iter(expected), "{}", database.name());
        }
        let of_tenant = v1::ListAuditEventsRequest { tenant_id: tenant, ..Default::default() };
        let events = service.admin().list_audit_events(of_tenant).await.unwrap().into_inner().events;
        assert_eq!((&*events[0].action, &*events[0].target), ("session.unbind", "s-1"));
    }
}

#[tokio::test]
async fn reasons_that_cannot_be_shown_are_rejected() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let mut admin = service.admin();
    for reason in ["x".repeat(257), "a\u{202e}b".to_owned()] {
        let tenant_id = "acme".to_owned();
        let key_id = format!("key_{}", "0".repeat(20));
        let rotate = v1::RotateKeyRequest { key_id, reason: reason.clone(), ..Default::default() };
        let resume = v1::ResumeTenantRequest { tenant_id: tenant_id.clone(), reason: reason.clone() };
        let unbind =
            v1::UnbindSessionRequest { session_id: "s".to_owned(), tenant_id, reason: reason.clone() };
        let refusals: [Status; 4] = [
            admin.issue_key(issue("acme", &reason)).await.unwrap_err(),
            admin.rotate_key(rotate).await.unwrap_err(),
            admin.resume_tenant(resume).await.unwrap_err(),
            sessions(&service).unbind_session(unbind).await.unwrap_err(),
        ];
        for refusal in refusals {
            assert!(violated_fields(refusal).contains(&"reason".to_owned()));
        }
    }
}
