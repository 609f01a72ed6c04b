//! The front doors: a denial is a denial, and "not known" is 503, whoever asks.

mod encrypted;
mod ext_authz;
mod forward_auth;
mod introspection;
mod principals;

use std::time::Duration;

use tenant_auth_proto::v1;
use tenant_auth_svc::domain::clock::{Clock as _, ManualClock};

use crate::harness::{TestService, owned, unknown_key, updates::key_update};

/// A key, and what the doors answer to it: status and code.
struct Denied {
    key: String,
    status: u16,
    code: &'static str,
}

/// Creates a key for each denial that a key can have; each lacks nothing but what the code says.
async fn denied_keys(service: &TestService, clock: &ManualClock) -> Vec<Denied> {
    let tenant = service.create_tenant("Acme").await;
    let suspended = service.create_tenant("Late").await;
    let (of_suspended, _) = service.issue_key(&suspended, &["a"]).await;
    let suspend = v1::SuspendTenantRequest { tenant_id: suspended, reason: "unpaid".to_owned() };
    service.admin().suspend_tenant(suspend).await.unwrap();
    let (revoked, revoked_id) = service.issue_key(&tenant, &["a"]).await;
    service.revoke_key(&revoked_id).await;
    let (disabled, disabled_id) = service.issue_key(&tenant, &["a"]).await;
    let disable = v1::UpdateKeyRequest { enabled: false, ..key_update(&disabled_id, &["enabled"]) };
    service.admin().update_key(disable).await.unwrap();
    let (expired, expired_id) = service.issue_key(&tenant, &["a"]).await;
    let seconds = clock.now().0 / 1_000 + 1;
    let expires_at = Some(prost_types::Timestamp { seconds, nanos: 0 });
    let expire = v1::UpdateKeyRequest { expires_at, ..key_update(&expired_id, &["expires_at"]) };
    service.admin().update_key(expire).await.unwrap();
    clock.advance(Duration::from_secs(2));
    let (narrow, _) = service.issue_key(&tenant, &["b"]).await;
    let limited = v1::IssueKeyRequest {
        tenant_id: tenant,
        scopes: owned(&["a"]),
        allowed_networks: owned(&["192.0.2.0/24"]),
        ..Default::default()
    };
    let limited = service.admin().issue_key(limited).await.unwrap().into_inner().plaintext;
    let denied = |key, status, code| Denied { key, status, code };
    vec![
        denied(unknown_key(), 401, "UNKNOWN"),
        denied("short".to_owned(), 401, "MALFORMED"),
        denied(expired, 401, "EXPIRED"),
        denied(revoked, 401, "REVOKED"),
        denied(disabled, 403, "DISABLED"),
        denied(of_suspended, 403, "TENANT_SUSPENDED"),
        denied(narrow, 403, "INSUFFICIENT_SCOPE"),
        denied(limited, 403, "ADDRESS_REQUIRED"),
    ]
}

/// Returns the code in a problem document.
fn problem_code(body: &str) -> String {
    let problem: serde_json::Value =
        serde_json::from_str(body).unwrap_or_else(|_| panic!("no problem: {body:?}"));
    problem["code"].as_str().unwrap().to_owned()
}
