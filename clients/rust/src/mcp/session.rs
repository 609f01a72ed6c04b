//! Sessions of the handshake revisions: bound when a response opens them, validated with each request.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use super::{handles::HANDLE_PREFIX, rejection::McpRejection};
use crate::{
    BindSession, Client, Denied, Error, NotAdmitted, PresentedKey, Validation, Verdict,
    guard::SessionOfTenant,
    layer::{Authenticator, SESSION_ID_HEADER},
    session::MAX_SESSION_ID_LEN,
};

/// Returns the session id of a request; `None` without one.
///
/// # Errors
/// 404 for an id that no session has; nobody is asked.
pub(super) fn session_id_of(headers: &HeaderMap) -> Result<Option<String>, McpRejection> {
    let Some(value) = headers.get(SESSION_ID_HEADER) else { return Ok(None) };
    match session_id(value) {
        Some(id) => Ok(Some(id.to_owned())),
        None => Err(no_session(Verdict::Unbound)),
    }
}

/// Returns an id that the contract allows, and that is no handle.
pub(super) fn session_id(value: &HeaderValue) -> Option<&str> {
    let is_visible = value.as_bytes().iter().all(u8::is_ascii_graphic);
    let id = value.to_str().ok().filter(|id| is_visible && (1..=MAX_SESSION_ID_LEN).contains(&id.len()))?;
    (!id.starts_with(HANDLE_PREFIX)).then_some(id)
}

/// Returns a session if it continues and belongs to the tenant of a key.
pub(super) async fn validate(
    authenticator: &Authenticator,
    client: &Client,
    session_id: String,
    key: &PresentedKey,
    request_id: Option<&str>,
) -> Result<SessionOfTenant, McpRejection> {
    match client.require_session(&session_id, Some(key), &[]).await {
        Ok(session) => Ok(SessionOfTenant { session_id, opened_by: session.key_id().to_owned() }),
        Err(NotAdmitted::Denied(denied)) if ends_session(denied.verdict()) => {
            Err(no_session(denied.verdict()))
        }
        Err(NotAdmitted::Undecided(Error::Invalid { violations, .. }))
            if violations.iter().any(|violation| violation.field == "session_id") =>
        {
            Err(no_session(Verdict::Unbound))
        }
        Err(not_admitted) => Err(authenticator.rejection(not_admitted, request_id).into()),
    }
}

/// Binds a session that a response opens to the tenant of the key.
pub(super) async fn bind(
    authenticator: &Authenticator,
    client: &Client,
    session_id: &HeaderValue,
    ttl: Duration,
    key: &PresentedKey,
    request_id: Option<&str>,
) -> Result<(), McpRejection> {
    let bound = match self::session_id(session_id) {
        Some(id) => client.bind_session(BindSession::new(id, ttl).sliding(), key).await,
        None => Err(Error::invalid_field(
            "session_id",
            "the server behind the layer has opened an invalid session",
        )),
    };
    let not_admitted = match bound {
        Ok(binding) if binding.verdict.is_valid() => return Ok(()),
        Ok(binding) => NotAdmitted::Denied(Denied::new(Validation::without_subject(binding.verdict))),
        Err(error) => NotAdmitted::Undecided(error),
    };
    Err(authenticator.rejection(not_admitted, request_id).into())
}

/// Unbinds a session that its client has ended. If it fails, the binding expires by itself.
pub(super) async fn unbind(client: &Client, session_id: &str, tenant_id: &str) {
    if let Err(error) = client.unbind_session(session_id, tenant_id).await {
        tracing::warn!(%error, "session not unbound; it stays bound until it expires");
    }
}

/// Returns whether a verdict means that the session has ended, for example because the key that opened it was revoked.
/// With the other verdicts it continues later.
fn ends_session(verdict: Verdict) -> bool {
    !matches!(
        verdict,
        Verdict::Disabled
            | Verdict::TenantSuspended
            | Verdict::AddressRequired
            | Verdict::AddressNotAllowed
            | Verdict::InsufficientScope
            | Verdict::QuotaExceeded
            | Verdict::RateLimited
            | Verdict::Unrecognized(_)
    )
}

/// Returns 404. A session of another tenant is like one that does not exist.
fn no_session(verdict: Verdict) -> McpRejection {
    let shown = if verdict == Verdict::TenantMismatch { Verdict::Unbound } else { verdict };
    McpRejection::NoSession(shown.to_string())
}
