//! Deletion of tenants.

use prost_types::Timestamp;
use serde_json::json;
use tenant_auth_proto::v1::{self, SessionExpiry, Verdict, usage_service_client::UsageServiceClient};
use tenant_auth_testkit::Fault;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{
    TestDatabase, TestService,
    replicas::Replicas,
    sessions::{bind_session, validate_session},
    updates::audit_details,
    violated_fields,
};

fn deletion(tenant: &str) -> v1::DeleteTenantRequest {
    v1::DeleteTenantRequest {
        tenant_id: tenant.to_owned(),
        reason: "contract ended".to_owned(),
        delete_usage: false,
    }
}

async fn delete(
    service: &TestService,
    request: v1::DeleteTenantRequest,
) -> Result<v1::DeleteTenantResponse, Status> {
    Ok(service.admin().delete_tenant(request).await?.into_inner())
}

async fn suspend(service: &TestService, tenant: &str) {
    let request = v1::SuspendTenantRequest { tenant_id: tenant.to_owned(), reason: "unpaid".to_owned() };
    service.admin().suspend_tenant(request).await.unwrap();
}

async fn used(service: &TestService, tenant: &str) -> Result<i64, Status> {
    let request = v1::QueryUsageRequest {
        tenant_id: tenant.to_owned(),
        start_time: Some(Timestamp { seconds: 0, nanos: 0 }),
        end_time: Some(Timestamp { seconds: 4_000_000_000, nanos: 0 }),
        bucket: v1::UsageBucket::Month.into(),
        ..Default::default()
    };
    let response = UsageServiceClient::new(service.channel.clone()).query_usage(request).await?;
    Ok(response.into_inner().sums.iter().map(|sum| sum.quantity).sum())
}

async fn record_usage(service: &TestService, tenant: &str) {
    let event = v1::UsageEvent {
        tenant_id: tenant.to_owned(),
        metric: "api.calls".to_owned(),
        quantity: 5,
        occurred_at: None,
    };
    let request = v1::RecordUsageRequest { request_id: format!("usage-of-{tenant}"), events: vec![event] };
    UsageServiceClient::new(service.channel.clone()).record_usage(request).await.unwrap();
}

#[tokio::test]
async fn suspended_tenant_is_deleted_with_its_keys_and_sessions() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        for delete_usage in [false, true] {
            let (tenant, other) = (service.create_tenant("Acme").await, service.create_tenant("Other").await);
            let (key, id) = service.issue_key(&tenant, &[]).await;
            let (others_key, _) = service.issue_key(&other, &[]).await;
            let session = format!("session-of-{tenant}");
            bind_session(&service, &session, &key, 600, SessionExpiry::Fixed).await.unwrap();
            record_usage(&service, &tenant).await;

            let refused = delete(&service, deletion(&tenant)).await.unwrap_err();
            assert_eq!(refused.code(), Code::FailedPrecondition);
            assert_eq!(refused.get_error_details().error_info().unwrap().reason, "TENANT_NOT_SUSPENDED");
            assert_eq!(service.validate(&key).await.unwrap().verdict(), Verdict::Valid);

            suspend(&service, &tenant).await;
            let request = v1::DeleteTenantRequest { delete_usage, ..deletion(&tenant) };
            let deleted = delete(&service, request.clone()).await.unwrap();
            assert!(deleted.complete && deleted.revision > 0, "{}", database.name());
            assert_eq!((deleted.sessions_deleted, deleted.keys_deleted), (1, 1));
            // One event and one total.
            assert_eq!(deleted.usage_deleted, if delete_usage { 2 } else { 0 });
            // A repeated call reports the same state. It would delete kept usage only if asked to.
            let repeated = delete(&service, request).await.unwrap();
            assert!(repeated.complete && repeated.keys_deleted == 0);

            assert_eq!(service.validate(&key).await.unwrap().verdict(), Verdict::Unknown);
            let of_session = validate_session(&service, &session, "", &[]).await.unwrap();
            assert_eq!(of_session.verdict(), Verdict::Unbound);
            assert_eq!(service.validate(&others_key).await.unwrap().verdict(), Verdict::Valid);
            let missing =
                service.admin().get_tenant(v1::GetTenantRequest { tenant_id: tenant.clone() }).await;
            assert_eq!(missing.unwrap_err().code(), Code::NotFound);
            match used(&service, &tenant).await {
                Ok(quantity) => assert!(!delete_usage && quantity == 5),
                Err(error) => assert!(delete_usage && error.code() == Code::NotFound, "{error:?}"),
            }
            if !delete_usage {
                // Kept usage can be deleted later.
                let later = v1::DeleteTenantRequest { delete_usage: true, ..deletion(&tenant) };
                assert_eq!(delete(&service, later).await.unwrap().usage_deleted, 1);
                assert_eq!(used(&service, &tenant).await.unwrap_err().code(), Code::NotFound);
            }
            // The deletion of kept usage has an entry of its own.
            let detail = |usage| json!({ "reason": "contract ended", "usage": usage });
            let expected = if delete_usage { vec!["deleted"] } else { vec!["kept", "deleted"] };
            let expected: Vec<_> = expected.into_iter().map(detail).collect();
            assert_eq!(audit_details(&service, &tenant, "tenant.delete").await, expected);
            let request = v1::ListAuditEventsRequest { target: id, ..Default::default() };
            let of_key = service.admin().list_audit_events(request).await.unwrap().into_inner();
            assert_eq!(of_key.events.len(), 1, "the audit log is kept");
        }
    }
}

#[tokio::test]
async fn lost_responses_delete_once_and_record_once() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    for fault in [Fault::ResetAfterCommit, Fault::ResetBeforeExecute] {
        let tenant = service.create_tenant("Acme").await;
        service.issue_key(&tenant, &[]).await;
        suspend(&service, &tenant).await;
        database.server().faults().set_for(1, fault.clone());
        assert!(delete(&service, deletion(&tenant)).await.unwrap().complete, "{fault:?}");
        assert_eq!(audit_details(&service, &tenant, "tenant.delete").await.len(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn large_tenant_is_deleted_in_bounded_calls() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let keys = format!(
        "INSERT INTO api_keys (key_hash, id, tenant_id, created_at) \
         WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 6000) \
         SELECT CAST(printf('%032d', n) AS BLOB), 'key_many_' || n, '{tenant}', 0 FROM numbers"
    );
    database.server().execute(&keys).unwrap();
    suspend(&service, &tenant).await;
    let first = delete(&service, deletion(&tenant)).await.unwrap();
    assert!(!first.complete);
    assert_eq!(first.keys_deleted, 5_000, "ten steps of 500 rows");
    // It has begun, and is recorded: nothing brings the tenant back, and nothing is added to it.
    let get = v1::GetTenantRequest { tenant_id: tenant.clone() };
    let shown = service.admin().get_tenant(get).await.unwrap().into_inner().tenant.unwrap();
    assert!(shown.deletion_started_at.is_some());
    assert_eq!(audit_details(&service, &tenant, "tenant.delete").await.len(), 1);
    let resume = v1::ResumeTenantRequest { tenant_id: tenant.clone(), ..Default::default() };
    let issue = v1::IssueKeyRequest { tenant_id: tenant.clone(), ..Default::default() };
    for refused in [
        service.admin().resume_tenant(resume).await.map(drop),
        service.admin().issue_key(issue).await.map(drop),
    ] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        assert_eq!(refused.get_error_details().error_info().unwrap().reason, "TENANT_BEING_DELETED");
    }
    let second = delete(&service, deletion(&tenant)).await.unwrap();
    assert!(second.complete);
    assert_eq!(second.keys_deleted, 1_000);
    assert_eq!(audit_details(&service, &tenant, "tenant.delete").await.len(), 1);
    // The id is free again.
    let create = v1::CreateTenantRequest { tenant_id: tenant, name: "Acme".to_owned(), ..Default::default() };
    let created = service.admin().create_tenant(create).await.unwrap().into_inner().tenant.unwrap();
    assert!(created.deletion_started_at.is_none());
}

#[tokio::test]
async fn deletion_reaches_the_other_replica() {
    let replicas = Replicas::start().await;
    let (key, _) = replicas.first.issue_key(&replicas.tenant, &[]).await;
    replicas.poll_second().await;
    assert_eq!(replicas.validate_on_second(&key).await.0, Verdict::Valid);
    suspend(&replicas.first, &replicas.tenant).await;
    delete(&replicas.first, deletion(&replicas.tenant)).await.unwrap();
    replicas.poll_second().await;
    assert_eq!(replicas.validate_on_second(&key).await.0, Verdict::Unknown);
}

#[tokio::test]
async fn invalid_deletion_names_its_fields() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let invalid = delete(&service, v1::DeleteTenantRequest::default()).await.unwrap_err();
    assert_eq!(violated_fields(invalid), ["tenant_id", "reason"]);
    let missing = delete(&service, deletion("ten_nobody")).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound, "{missing:?}");
}
