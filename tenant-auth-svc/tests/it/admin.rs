//! A typical sequence of operator calls over the wire, on every kind of database.

use prost_types::Duration;
use tenant_auth_proto::v1::{self, Verdict, import_key_result::Result as Imported};
use tonic::{Code, Request};

use crate::harness::{TestDatabase, TestService, owned};

#[tokio::test]
async fn tenant_is_created_once_suspended_and_resumed() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let mut admin = service.admin();
        let id = format!("acme-{}", service.create_tenant("x").await);
        let create = |name: &str| v1::CreateTenantRequest {
            tenant_id: id.clone(),
            name: name.to_owned(),
            plan: "pro".to_owned(),
        };
        let first = admin.create_tenant(create("Acme")).await.unwrap().into_inner().tenant.unwrap();
        let again = admin.create_tenant(create("Acme")).await.unwrap().into_inner().tenant.unwrap();
        assert_eq!(first, again);
        assert_eq!(admin.create_tenant(create("Other")).await.unwrap_err().code(), Code::AlreadyExists);

        let suspend = v1::SuspendTenantRequest { tenant_id: id.clone(), reason: "unpaid".to_owned() };
        let tenant = admin.suspend_tenant(suspend).await.unwrap().into_inner().tenant.unwrap();
        assert_eq!((tenant.status(), &*tenant.suspend_reason), (v1::TenantStatus::Suspended, "unpaid"));
        let resume = v1::ResumeTenantRequest { tenant_id: id.clone(), ..Default::default() };
        let tenant = admin.resume_tenant(resume).await.unwrap().into_inner().tenant.unwrap();
        assert_eq!((tenant.status(), &*tenant.suspend_reason), (v1::TenantStatus::Active, ""));

        let unknown = || "ten_nobody".to_owned();
        let get = v1::GetTenantRequest { tenant_id: unknown() };
        assert_eq!(admin.get_tenant(get).await.unwrap_err().code(), Code::NotFound);
        let resume = v1::ResumeTenantRequest { tenant_id: unknown(), ..Default::default() };
        assert_eq!(admin.resume_tenant(resume).await.unwrap_err().code(), Code::NotFound);
    }
}

#[tokio::test]
async fn key_is_issued_rotated_and_revoked() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let mut admin = service.admin();
        let tenant = service.create_tenant("Acme").await;
        let (old, old_id) = service.issue_key(&tenant, &["a"]).await;

        let rotate = |id: &str, overlap: Option<i64>| v1::RotateKeyRequest {
            key_id: id.to_owned(),
            overlap: overlap.map(|seconds| Duration { seconds, nanos: 0 }),
            ..v1::RotateKeyRequest::default()
        };
        let rotated = admin.rotate_key(rotate(&old_id, Some(3_600))).await.unwrap().into_inner();
        let (new, new_key) = (rotated.plaintext, rotated.key.unwrap());
        assert_eq!((new_key.scopes, new_key.name), (owned(&["a"]), "test".to_owned()));
        assert_eq!(rotated.replaced.unwrap().replaced_by_key_id, new_key.key_id);
        for key in [&old, &new] {
            assert_eq!(service.validate_for(key, &["a"]).await.unwrap().verdict(), Verdict::Valid);
        }
        let refused = admin.rotate_key(rotate(&old_id, None)).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains("was rotated before"), "{refused:?}");

        // Without an overlap, the old key expires at once.
        let last = admin.rotate_key(rotate(&new_key.key_id, Some(0))).await.unwrap().into_inner();
        assert_eq!(service.validate(&new).await.unwrap().verdict(), Verdict::Expired);
        assert_eq!(service.validate(&last.plaintext).await.unwrap().verdict(), Verdict::Valid);

        service.revoke_key(&last.key.unwrap().key_id).await;
        let list = |include_inactive| v1::ListKeysRequest {
            tenant_id: tenant.clone(),
            include_inactive,
            ..Default::default()
        };
        let all = admin.list_keys(list(true)).await.unwrap().into_inner().keys;
        let live = admin.list_keys(list(false)).await.unwrap().into_inner().keys;
        assert_eq!((all.len(), live.len()), (3, 1), "the first key is live until its overlap ends");
        assert!(all.iter().all(|key| !key.prefix_hint.is_empty() && !old.ends_with(&key.prefix_hint)));

        let unknown = v1::RevokeKeyRequest { key_id: "key_nobody".to_owned(), reason: "x".to_owned() };
        assert_eq!(admin.revoke_key(unknown).await.unwrap_err().code(), Code::NotFound);
        let issue = v1::IssueKeyRequest { tenant_id: "ten_nobody".to_owned(), ..Default::default() };
        assert_eq!(admin.issue_key(issue).await.unwrap_err().code(), Code::NotFound);
    }
}

#[tokio::test]
async fn import_reports_outcome_of_each_key() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let (ours, theirs) = (service.create_tenant("Ours").await, service.create_tenant("Theirs").await);
        let key = |tenant: &str| {
            let mut sha256 = vec![0; 32];
            getrandom::fill(&mut sha256).unwrap();
            v1::ImportKey { tenant_id: tenant.to_owned(), sha256, ..Default::default() }
        };
        let (first, taken) = (key(&ours), key(&theirs));
        let import = async |keys: Vec<v1::ImportKey>| {
            let answer =
                service.admin().import_keys(v1::ImportKeysRequest { keys }).await.unwrap().into_inner();
            answer.results.into_iter().map(|result| result.result.unwrap()).collect::<Vec<_>>()
        };
        import(vec![taken.clone()]).await;
        let stolen = v1::ImportKey { tenant_id: ours.clone(), ..taken };
        let results = import(vec![first.clone(), stolen, key("ten_nobody"), first.clone()]).await;
        let Imported::ImportedKeyId(id) = &results[0] else { panic!("{results:?}") };
        let code = |result: &Imported| match result {
            Imported::Error(status) => Code::from(status.code),
            other => panic!("{other:?}"),
        };
        assert_eq!(code(&results[1]), Code::AlreadyExists);
        assert_eq!(code(&results[2]), Code::NotFound);
        assert_eq!(results[3], Imported::ExistingKeyId(id.clone()));
        assert_eq!(import(vec![first]).await, [Imported::ExistingKeyId(id.clone())]);
    }
}

#[tokio::test]
async fn audit_log_names_actor_action_and_request() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let tenant = service.create_tenant("Acme").await;
        let (_, key_id) = service.issue_key(&tenant, &[]).await;
        let mut request =
            Request::new(v1::RevokeKeyRequest { key_id: key_id.clone(), reason: "leaked".to_owned() });
        request.metadata_mut().insert("x-request-id", "ticket-4711".parse().unwrap());
        let answer = service.admin().revoke_key(request).await.unwrap();
        assert_eq!(
            answer.metadata().get("x-request-id").unwrap(),
            "ticket-4711",
            "the request id is returned"
        );

        let list = |page_token| v1::ListAuditEventsRequest {
            tenant_id: tenant.clone(),
            page_size: 2,
            page_token,
            ..Default::default()
        };
        let page = service.admin().list_audit_events(list(String::new())).await.unwrap().into_inner();
        let newest = &page.events[0];
        assert_eq!((&*newest.action, &newest.target), ("key.revoke", &key_id));
        assert_eq!((&*newest.request_id, &*newest.detail), ("ticket-4711", "leaked"));
        assert_eq!(newest.caller, "unauthenticated@127.0.0.1");
        let rest = service.admin().list_audit_events(list(page.next_page_token)).await.unwrap().into_inner();
        let actions: Vec<_> = page.events.iter().chain(&rest.events).map(|event| &*event.action).collect();
        assert_eq!(actions, ["key.revoke", "key.issue", "tenant.create"]);
        assert!(rest.next_page_token.is_empty());
    }
}
