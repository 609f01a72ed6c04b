//! Every verdict, over the wire, on every kind of database.

use std::time::Duration;

use tenant_auth_proto::v1::{self, Source, Verdict};
use tenant_auth_svc::domain::{
    clock::ManualClock,
    key::{KeyHash, PresentedKey},
};

use crate::harness::{NOW, TestDatabase, TestService, owned, unknown_key};

#[tokio::test]
async fn every_verdict_is_returned_on_every_database() {
    for database in TestDatabase::all().await {
        println!("{}", database.name());
        let clock = ManualClock::at(NOW);
        let service = TestService::start_at(&database, &clock).await;
        let tenant = service.create_tenant("Acme").await;
        let (key, key_id) = service.issue_key(&tenant, &["orders:read", "orders:write"]).await;

        let valid = service.validate_for(&key, &["orders:read"]).await.unwrap();
        assert_eq!(valid.verdict(), Verdict::Valid);
        assert_eq!((&valid.tenant_id, &*valid.tenant_name, &*valid.plan), (&tenant, "Acme", "pro"));
        assert_eq!(valid.key_id, key_id);
        assert_eq!(valid.scopes, ["orders:read", "orders:write"]);
        assert!(valid.expires_at.is_none() && valid.missing_scopes.is_empty());
        let provenance = valid.provenance.unwrap();
        assert_eq!(provenance.source(), Source::Database);
        assert!(provenance.revision > 0);

        let lacking = service.validate_for(&key, &["users:read", "orders:read"]).await.unwrap();
        assert_eq!(lacking.verdict(), Verdict::InsufficientScope);
        assert_eq!(lacking.missing_scopes, ["users:read"]);

        let unknown = service.validate(&unknown_key()).await.unwrap();
        assert_eq!(unknown.verdict(), Verdict::Unknown);
        let bare = v1::ValidateKeyResponse {
            verdict: unknown.verdict,
            provenance: unknown.provenance,
            ..Default::default()
        };
        assert_eq!(unknown, bare, "an unknown key has no details");

        let mut broken = key.clone();
        broken.pop();
        broken.push(if key.ends_with('0') { '1' } else { '0' });
        let malformed = service.validate(&broken).await.unwrap();
        assert_eq!(malformed.verdict(), Verdict::Malformed);
        assert_eq!(malformed.provenance.unwrap().source(), Source::Database);
        let malformed = service.validate("ta_x").await.unwrap();
        assert_eq!(malformed.verdict(), Verdict::Malformed);
        assert_eq!(malformed.provenance.unwrap().source(), Source::Unspecified);

        let request = v1::IssueKeyRequest {
            tenant_id: tenant.clone(),
            expires_at: Some(prost_types::Timestamp { seconds: NOW.0 / 1_000 + 60, nanos: 0 }),
            ..Default::default()
        };
        let short = service.admin().issue_key(request).await.unwrap().into_inner().plaintext;
        assert_eq!(service.validate(&short).await.unwrap().verdict(), Verdict::Valid);
        clock.advance(Duration::from_secs(60));
        let expired = service.validate(&short).await.unwrap();
        assert_eq!((expired.verdict(), &expired.tenant_id), (Verdict::Expired, &tenant));

        service.revoke_key(&key_id).await;
        let revoked = service.validate(&key).await.unwrap();
        assert_eq!((revoked.verdict(), &revoked.key_id), (Verdict::Revoked, &key_id));

        let (other, _) = service.issue_key(&tenant, &[]).await;
        let suspend = v1::SuspendTenantRequest { tenant_id: tenant.clone(), reason: "unpaid".to_owned() };
        service.admin().suspend_tenant(suspend).await.unwrap();
        assert_eq!(service.validate(&other).await.unwrap().verdict(), Verdict::TenantSuspended);
    }
}

#[tokio::test]
async fn batch_answers_each_entry_in_order() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let tenant = service.create_tenant("Acme").await;
        let (good, good_id) = service.issue_key(&tenant, &["a"]).await;
        let (gone, gone_id) = service.issue_key(&tenant, &["a"]).await;
        service.revoke_key(&gone_id).await;
        let ask = |key: &str, scopes: &[&str]| v1::ValidateKeyRequest {
            key: key.to_owned(),
            required_scopes: owned(scopes),
            ..Default::default()
        };
        let requests = vec![
            ask(&good, &[]),
            ask("nonsense", &[]),
            ask(&unknown_key(), &[]),
            ask(&gone, &[]),
            ask("!", &[]),
            ask(&good, &["b"]),
            ask(&good, &["a"]),
        ];
        let answer = service
            .validation()
            .batch_validate_keys(v1::BatchValidateKeysRequest { requests })
            .await
            .unwrap();
        let decided: Vec<_> = answer
            .into_inner()
            .results
            .into_iter()
            .map(|result| match result.result.unwrap() {
                v1::batch_validate_keys_result::Result::Response(response) => {
                    (response.verdict(), response.key_id)
                }
                v1::batch_validate_keys_result::Result::Error(error) => panic!("{error:?}"),
            })
            .collect();
        let no_id = String::new;
        assert_eq!(
            decided,
            [
                (Verdict::Valid, good_id.clone()),
                (Verdict::Unknown, no_id()),
                (Verdict::Unknown, no_id()),
                (Verdict::Revoked, gone_id),
                (Verdict::Malformed, no_id()),
                (Verdict::InsufficientScope, good_id.clone()),
                (Verdict::Valid, good_id),
            ]
        );
    }
}

#[tokio::test]
async fn imported_key_of_foreign_format_is_valid() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let tenant = service.create_tenant("Acme").await;
        let key = format!("sk_live_{}", unknown_key());
        let hash = KeyHash::of(&PresentedKey::new(key.clone()));
        let import = v1::ImportKey {
            tenant_id: tenant,
            sha256: hash.as_bytes().to_vec(),
            scopes: owned(&["legacy"]),
            ..Default::default()
        };
        service.admin().import_keys(v1::ImportKeysRequest { keys: vec![import] }).await.unwrap();
        assert_eq!(service.validate_for(&key, &["legacy"]).await.unwrap().verdict(), Verdict::Valid);
    }
}
