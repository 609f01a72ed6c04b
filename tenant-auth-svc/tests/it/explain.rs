//! `ExplainKey`: what a replica answers about a key, and why.

use tenant_auth_proto::v1::{self, Source, Verdict};
use tenant_auth_testkit::Fault;
use tonic::{Code, Status};

use crate::harness::{
    TestDatabase, TestService, owned,
    replicas::Replicas,
    unknown_key,
    updates::{enable, update},
    violated_fields,
};

async fn explain(
    service: &TestService,
    request: v1::ExplainKeyRequest,
) -> Result<v1::ExplainKeyResponse, Status> {
    Ok(service.admin().explain_key(request).await?.into_inner())
}

fn by_id(key_id: &str) -> v1::ExplainKeyRequest {
    v1::ExplainKeyRequest { key_id: key_id.to_owned(), ..Default::default() }
}

fn by_plaintext(key: &str) -> v1::ExplainKeyRequest {
    v1::ExplainKeyRequest { plaintext: key.to_owned(), ..Default::default() }
}

#[tokio::test]
async fn key_is_explained_from_database_memory_and_audit_log() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let tenant = service.create_tenant("Acme").await;
        let (key, id) = service.issue_key(&tenant, &["a"]).await;
        service.validate(&key).await.unwrap();
        for request in [by_id(&id), by_plaintext(&key)] {
            let valid = explain(&service, request).await.unwrap();
            assert_eq!((valid.verdict(), &*valid.key_id), (Verdict::Valid, &*id), "{}", database.name());
            let stored = valid.database.unwrap();
            assert_eq!(
                (stored.verdict(), stored.tenant.unwrap().tenant_id),
                (Verdict::Valid, tenant.clone())
            );
            let cached = valid.replica.unwrap().cached.unwrap();
            assert_eq!((cached.verdict(), cached.source()), (Verdict::Valid, Source::Fresh));
            assert_eq!(cached.scopes, owned(&["a"]));
            assert_eq!((valid.database_error, valid.denied_by_list), (None, false));
            assert_eq!(
                valid.key_events.iter().map(|event| &*event.action).collect::<Vec<_>>(),
                ["key.issue"]
            );
            let actions: Vec<_> = valid.tenant_events.iter().map(|event| &*event.action).collect();
            assert_eq!(actions, ["tenant.create"]);
        }
        let lacking = v1::ExplainKeyRequest { required_scopes: owned(&["a", "b"]), ..by_id(&id) };
        let lacking = explain(&service, lacking).await.unwrap();
        assert_eq!((lacking.verdict(), lacking.missing_scopes), (Verdict::InsufficientScope, owned(&["b"])));

        update(&service, enable(&id, false)).await.unwrap();
        let disabled = explain(&service, by_id(&id)).await.unwrap();
        assert_eq!(disabled.verdict(), Verdict::Disabled);
        let change = disabled.replica.unwrap().last_change.unwrap();
        assert!(change.disabled && change.applied_at.is_some());
        service.revoke_key(&id).await;
        let revoked = explain(&service, by_plaintext(&key)).await.unwrap();
        assert_eq!(revoked.verdict(), Verdict::Revoked);
        assert_eq!((&*revoked.key_events[0].action, &*revoked.key_events[0].detail), ("key.revoke", "test"));
    }
}

#[tokio::test]
async fn replica_that_missed_a_change_is_explained_from_its_memory() {
    let replicas = Replicas::start().await;
    let (key, id) = replicas.first.issue_key(&replicas.tenant, &[]).await;
    replicas.poll_second().await;
    replicas.validate_on_second(&key).await;
    replicas.first.revoke_key(&id).await;
    // The second replica has not polled its feed since.
    let explained = explain(&replicas.second, by_id(&id)).await.unwrap();
    assert_eq!(explained.verdict(), Verdict::Valid);
    assert_eq!(explained.database.unwrap().verdict(), Verdict::Revoked);
    replicas.poll_second().await;
    let explained = explain(&replicas.second, by_id(&id)).await.unwrap();
    assert_eq!(explained.verdict(), Verdict::Revoked);
    let change = explained.replica.unwrap().last_change.unwrap();
    assert!(change.revoked_at.is_some() && change.applied_at.is_some());
}

#[tokio::test]
async fn outage_leaves_the_part_about_the_memory() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let (key, id) = service.issue_key(&tenant, &[]).await;
    let (_, unread) = service.issue_key(&tenant, &[]).await;
    service.validate(&key).await.unwrap();
    database.server().faults().set(Fault::ResetBeforeExecute);
    for request in [by_id(&id), by_plaintext(&key)] {
        let explained = explain(&service, request).await.unwrap();
        assert_eq!((explained.verdict(), &*explained.key_id), (Verdict::Valid, &*id));
        assert_eq!(explained.database, None);
        assert_eq!(explained.database_error.unwrap().code, i32::from(Code::Unavailable));
        assert!(explained.key_events.is_empty());
    }
    let unknown = explain(&service, by_plaintext(&unknown_key())).await.unwrap();
    assert_eq!((unknown.verdict(), &*unknown.key_id), (Verdict::Unspecified, ""));
    assert!(unknown.database_error.is_some());
    drop(unread);
}

#[tokio::test]
async fn unknown_and_malformed_keys_are_explained() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let unknown = explain(&service, by_plaintext(&unknown_key())).await.unwrap();
    assert_eq!((unknown.verdict(), &*unknown.key_id), (Verdict::Unknown, ""), "{unknown:?}");
    let malformed = explain(&service, by_plaintext("ta_nonsense")).await.unwrap();
    assert_eq!((malformed.verdict(), malformed.replica), (Verdict::Malformed, None));
    assert_eq!(explain(&service, by_id("key_nobody")).await.unwrap_err().code(), Code::NotFound);
    let both = v1::ExplainKeyRequest { plaintext: "x".to_owned(), ..by_id("key_1") };
    assert_eq!(violated_fields(explain(&service, both).await.unwrap_err()), ["plaintext"]);
    let neither = v1::ExplainKeyRequest { client_address: "x".to_owned(), ..Default::default() };
    assert_eq!(violated_fields(explain(&service, neither).await.unwrap_err()), ["key_id", "client_address"]);
}
