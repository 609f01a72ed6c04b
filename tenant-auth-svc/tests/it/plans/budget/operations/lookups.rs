//! Validations, and questions about one key.

use tenant_auth_proto::v1::{self, Verdict};

use crate::harness::{
    scale::{FilledDatabase, LARGE_TENANT, small_key},
    sessions::validate_session,
    unknown_key,
};

pub(super) async fn run(filled: &mut FilledDatabase) {
    filled
        .measure("validate a key", async |service| {
            assert_eq!(service.validate(&small_key(1)).await.unwrap().verdict(), Verdict::Valid);
        })
        .await;
    filled
        .measure("validate a cached key", async |service| {
            assert_eq!(service.validate(&small_key(1)).await.unwrap().verdict(), Verdict::Valid);
        })
        .await;
    filled
        .measure("validate an unknown key", async |service| {
            assert_eq!(service.validate(&unknown_key()).await.unwrap().verdict(), Verdict::Unknown);
        })
        .await;
    filled
        .measure("validate 64 keys in a batch", async |service| {
            let request = |number| v1::ValidateKeyRequest { key: small_key(number), ..Default::default() };
            let requests = (100..164).map(request).collect();
            let batch = v1::BatchValidateKeysRequest { requests };
            service.validation().batch_validate_keys(batch).await.unwrap();
        })
        .await;
    let session = {
        let sql = format!(
            "SELECT session_id FROM session_bindings JOIN api_keys ON id = key_id \
             WHERE session_bindings.tenant_id = '{LARGE_TENANT}' AND revoked_at IS NULL LIMIT 1"
        );
        let found = filled.database.server().query(&sql).unwrap();
        found[0][0]["value"].as_str().unwrap().to_owned()
    };
    filled
        .measure("validate a session", async |service| {
            let answer = validate_session(service, &session, "", &[]).await.unwrap();
            assert_eq!(answer.verdict(), Verdict::Valid);
        })
        .await;
    filled
        .measure("get a key", async |service| {
            let key_id = "key_small_2".to_owned();
            service.admin().get_key(v1::GetKeyRequest { key_id }).await.unwrap();
        })
        .await;
    filled
        .measure("explain a key", async |service| {
            let request = v1::ExplainKeyRequest { key_id: "key_small_2".to_owned(), ..Default::default() };
            service.admin().explain_key(request).await.unwrap();
        })
        .await;
    filled
        .measure("get a tenant", async |service| {
            let tenant_id = LARGE_TENANT.to_owned();
            service.admin().get_tenant(v1::GetTenantRequest { tenant_id }).await.unwrap();
        })
        .await;
}
