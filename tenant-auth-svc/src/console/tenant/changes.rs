//! Changes of a tenant.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::{IntoResponse as _, Redirect, Response},
};
use http::StatusCode;
use serde::Deserialize;
use tenant_auth_proto::v1;
use zeroize::Zeroizing;

use crate::console::{
    Console, applied,
    change::Change,
    entered::{days_from_now, words},
    failure::Failure,
    new_key,
    parts::answer,
    paths,
    reason::GivenReason,
    rpc::call,
    sent_forms::FormId,
};

/// A form that asks only for a reason.
#[derive(Debug, Deserialize)]
pub(in crate::console) struct OnlyReason {
    pub(in crate::console) reason: GivenReason,
}

/// A key to issue.
#[derive(Debug, Deserialize)]
pub(in crate::console) struct KeyForm {
    form_id: FormId,
    #[serde(default)]
    name: String,
    #[serde(default)]
    scopes: String,
    #[serde(default)]
    networks: String,
    #[serde(default)]
    expires_in_days: String,
    reason: GivenReason,
}

/// A session to end.
#[derive(Debug, Deserialize)]
pub(in crate::console) struct SessionForm {
    session_id: String,
    tenant_id: String,
    reason: GivenReason,
}

pub(in crate::console) async fn suspend(
    Path(tenant_id): Path<String>,
    Change { person, fields }: Change<OnlyReason>,
) -> Response {
    let path = paths::tenant(&tenant_id);
    let request = v1::SuspendTenantRequest { tenant_id, reason: fields.reason.into_text() };
    match answer(person.rpc.admin().suspend_tenant(call(request)).await) {
        Ok(suspended) => changed(&path, suspended.revision),
        Err(failure) => failure.page(&person),
    }
}

pub(in crate::console) async fn resume(
    Path(tenant_id): Path<String>,
    Change { person, fields }: Change<OnlyReason>,
) -> Response {
    let path = paths::tenant(&tenant_id);
    let request = v1::ResumeTenantRequest { tenant_id, reason: fields.reason.into_text() };
    match answer(person.rpc.admin().resume_tenant(call(request)).await) {
        Ok(resumed) => changed(&path, resumed.revision),
        Err(failure) => failure.page(&person),
    }
}

pub(in crate::console) async fn unbind(Change { person, fields }: Change<SessionForm>) -> Response {
    let SessionForm { session_id, tenant_id, reason } = fields;
    let path = paths::tenant(&tenant_id);
    let request = v1::UnbindSessionRequest { session_id, tenant_id, reason: reason.into_text() };
    match answer(person.rpc.sessions().unbind_session(call(request)).await) {
        Ok(unbound) => changed(&path, unbound.revision),
        Err(failure) => failure.page(&person),
    }
}

pub(in crate::console) async fn issue(
    State(console): State<Arc<Console>>,
    Path(tenant_id): Path<String>,
    Change { person, fields }: Change<KeyForm>,
) -> Response {
    let path = paths::tenant(&tenant_id);
    let expires_at = match days_from_now(&fields.expires_in_days, console.parts.clock.now()) {
        Ok(expires_at) => expires_at,
        Err(failure) => return failure.page(&person),
    };
    if let Err(failure) = fields.form_id.check() {
        return failure.page(&person);
    }
    if let Err(sent) = console.sent_forms.begin(&fields.form_id) {
        return new_key::sent_before(&person, &sent, &path);
    }
    let request = v1::IssueKeyRequest {
        tenant_id,
        name: fields.name.trim().to_owned(),
        scopes: words(&fields.scopes),
        expires_at,
        allowed_networks: words(&fields.networks),
        reason: fields.reason.into_text(),
    };
    let issued = answer(person.rpc.admin().issue_key(call(request)).await);
    let v1::IssueKeyResponse { key, plaintext, revision } = match issued {
        Ok(issued) => issued,
        Err(failure) if is_uncertain(&failure) => return new_key::uncertain(&person, &failure, &path),
        Err(failure) => {
            console.sent_forms.forget(&fields.form_id);
            return failure.page(&person);
        }
    };
    let (key, plaintext) = (key.unwrap_or_default(), Zeroizing::new(plaintext));
    console.sent_forms.settle(&fields.form_id, &key.key_id);
    let applied = applied::part(&console, &person, revision).await;
    new_key::show(&person, (&key, &plaintext), None, &applied)
}

/// Whether a change may have been made in spite of a failure.
pub(in crate::console) fn is_uncertain(failure: &Failure) -> bool {
    matches!(failure.status(), StatusCode::SERVICE_UNAVAILABLE | StatusCode::INTERNAL_SERVER_ERROR)
}

/// Leads to the page of what was changed, which says which replicas have applied the change.
pub(in crate::console) fn changed(path: &str, revision: i64) -> Response {
    Redirect::to(&paths::with_query(path, &[("revision", &revision.to_string())])).into_response()
}
