//! Display texts contain only visible characters, at every input; stored texts are always readable.

use std::collections::HashMap;

use prost_types::Duration;
use tenant_auth_proto::v1::{self, session_service_client::SessionServiceClient};
use tenant_auth_svc::domain::clock::SystemClock;
use tonic::{Code, Status};
use tonic_types::{RpcStatusExt as _, StatusExt as _};

use crate::harness::{TestDatabase, TestService};

/// Texts that are rejected, and how the error names the character.
const UNDISPLAYABLE: [(&str, &str); 9] = [
    ("Ac\u{202e}me", "U+202E"),
    ("Ac\u{200b}me", "U+200B"),
    ("Acme\u{200d}", "U+200D"),
    ("two\u{2028}lines", "U+2028"),
    ("two\nlines", "U+000A"),
    ("\u{feff}Acme", "U+FEFF"),
    ("Acme\u{e000}", "U+E000"),
    ("   ", "U+0020"),
    ("Acme ", "U+0020"),
];

/// Returns the rejected field and the reason.
fn refused_field<T: std::fmt::Debug>(answer: Result<T, Status>) -> (String, String) {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = status.get_error_details();
    let [violation] = &details.bad_request().unwrap().field_violations[..] else { panic!("{status:?}") };
    (violation.field.clone(), violation.description.clone())
}

/// The same for a key that fails alone.
fn refused_import(result: &v1::ImportKeyResult) -> (String, String) {
    let Some(v1::import_key_result::Result::Error(error)) = &result.result else { panic!("{result:?}") };
    assert_eq!(Code::from(error.code), Code::InvalidArgument, "{error:?}");
    let bad = error.get_details_bad_request().unwrap();
    let [violation] = &bad.field_violations[..] else { panic!("{error:?}") };
    (violation.field.clone(), violation.description.clone())
}

#[tokio::test]
async fn undisplayable_text_is_refused_in_every_field() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant_id = service.create_tenant("Acme").await;
    let (key, key_id) = service.issue_key(&tenant_id, &[]).await;
    let requests = database.caller_requests();
    let mut admin = service.admin();
    let mut sessions = SessionServiceClient::new(service.channel.clone());
    let week = Some(Duration { seconds: 3_600, nanos: 0 });
    for (text, named) in UNDISPLAYABLE {
        let (own, tenant_id, key_id) = (|| text.to_owned(), tenant_id.clone(), key_id.clone());
        let mut all = Vec::new();
        let create = v1::CreateTenantRequest { name: own(), ..Default::default() };
        all.push(("name", refused_field(admin.create_tenant(create).await)));
        let create = v1::CreateTenantRequest { name: "ok".to_owned(), plan: own(), ..Default::default() };
        all.push(("plan", refused_field(admin.create_tenant(create).await)));
        let suspend = v1::SuspendTenantRequest { tenant_id: tenant_id.clone(), reason: own() };
        all.push(("reason", refused_field(admin.suspend_tenant(suspend).await)));
        let issue = v1::IssueKeyRequest { tenant_id: tenant_id.clone(), name: own(), ..Default::default() };
        all.push(("name", refused_field(admin.issue_key(issue).await)));
        let import = v1::ImportKey { tenant_id, sha256: vec![1; 32], ..Default::default() };
        let named_so = v1::ImportKey { name: own(), ..import.clone() };
        let hinted_so = v1::ImportKey { prefix_hint: own(), ..import };
        let import = v1::ImportKeysRequest { keys: vec![named_so, hinted_so] };
        let results = admin.import_keys(import).await.unwrap().into_inner().results;
        all.extend(["name", "prefix_hint"].into_iter().zip(results.iter().map(refused_import)));
        let revoke = v1::RevokeKeyRequest { key_id, reason: own() };
        all.push(("reason", refused_field(admin.revoke_key(revoke).await)));
        let accept = v1::AcceptDatabaseRequest { reason: own() };
        all.push(("reason", refused_field(admin.accept_database(accept).await)));
        let set = v1::SetOutageGraceRequest { grace: week, expires_in: week, reason: own() };
        all.push(("reason", refused_field(admin.set_outage_grace(set).await)));
        let reset = v1::ResetOutageGraceRequest { reason: own() };
        all.push(("reason", refused_field(admin.reset_outage_grace(reset).await)));
        for attribute in [(own(), "x".to_owned()), ("x".to_owned(), own())] {
            let bind = v1::BindSessionRequest {
                session_id: "s-1".to_owned(),
                key: key.clone(),
                ttl: week,
                expiry: v1::SessionExpiry::Fixed.into(),
                attributes: HashMap::from([attribute]),
                ..Default::default()
            };
            all.push(("attributes", refused_field(sessions.bind_session(bind).await)));
        }
        for (expected, (field, why)) in all {
            assert_eq!(field, expected, "{text:?}");
            assert!(why.contains(named), "{text:?}: {field} {why}");
        }
    }
    assert_eq!(database.caller_requests(), requests);
}

#[tokio::test]
async fn stored_undisplayable_text_is_still_read() {
    let database = TestDatabase::test_server().await;
    let before = TestService::start(&database).await;
    let tenant_id = before.create_tenant("Acme").await;
    let (key, key_id) = before.issue_key(&tenant_id, &[]).await;
    let bad = "\u{202e}Acme\u{200b} \nof before";
    for sql in [
        format!("UPDATE tenants SET name = '{bad}', plan = '{bad}' WHERE id = '{tenant_id}'"),
        format!("UPDATE api_keys SET name = '{bad}', prefix_hint = '{bad}' WHERE id = '{key_id}'"),
    ] {
        assert_eq!(database.server().execute(&sql), Ok(1));
    }
    before.running.stop().await;

    let service = TestService::start_with(database.settings(), SystemClock::shared()).await;
    let valid = service.validate(&key).await.unwrap();
    assert_eq!((valid.verdict(), &*valid.tenant_name, &*valid.plan), (v1::Verdict::Valid, bad, bad));
    let mut admin = service.admin();
    let got = admin.get_tenant(v1::GetTenantRequest { tenant_id: tenant_id.clone() }).await.unwrap();
    assert_eq!(got.into_inner().tenant.unwrap().name, bad);
    let listed = admin.list_tenants(v1::ListTenantsRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.tenants.len(), 1);
    let list = v1::ListKeysRequest { tenant_id, ..Default::default() };
    let keys = admin.list_keys(list).await.unwrap().into_inner().keys;
    assert_eq!((&*keys[0].name, &*keys[0].prefix_hint), (bad, bad));
    service.revoke_key(&key_id).await;
    assert_eq!(service.validate(&key).await.unwrap().verdict(), v1::Verdict::Revoked);
}
