//! Sessions.

use tenant_auth_proto::v1;

use super::{
    fields::{Fields, page_token},
    time::{span, timestamp},
    validation::{provenance_message, scope_names, verdict_number},
};
use crate::{
    domain::{
        clock::UnixMillis,
        id::TenantId,
        key::PresentedKey,
        page::{Page, PageRequest},
        session::{Attributes, Expiry, Session, SessionId, SessionVerdict, Ttl},
        sessions::{BindOrder, Bound, SessionDecision, SessionQuestion},
    },
    grpc::error::ApiError,
};

/// By what a page of sessions goes on.
type Cursor = (UnixMillis, SessionId);

pub(in crate::grpc) fn bind_request(request: v1::BindSessionRequest) -> Result<BindOrder, ApiError> {
    let mut fields = Fields::new();
    // Into its self-wiping type before anything else can fail.
    let key = PresentedKey::new(request.key);
    if key.expose().is_empty() {
        fields.violation("key", "must not be empty");
    }
    let id = fields.take("session_id", SessionId::parse(&request.session_id));
    let expiry = match v1::SessionExpiry::try_from(request.expiry) {
        Ok(v1::SessionExpiry::Unspecified | v1::SessionExpiry::Fixed) => Some(Expiry::Fixed),
        Ok(v1::SessionExpiry::Sliding) => Some(Expiry::Sliding),
        Err(_) => {
            fields.violation("expiry", "is none that this version knows");
            None
        }
    };
    let ttl = match request.ttl {
        None => {
            fields.violation("ttl", "must be set");
            None
        }
        Some(ttl) => {
            let ttl = fields.take("ttl", span(ttl));
            ttl.and_then(|ttl| fields.take("ttl", Ttl::new(ttl, expiry.unwrap_or(Expiry::Fixed))))
        }
    };
    let attributes = fields.take("attributes", Attributes::new(request.attributes));
    match (id, ttl, expiry, attributes) {
        (Some(id), Some(ttl), Some(expiry), Some(attributes)) if fields.is_valid() => {
            Ok(BindOrder { id, key, ttl, expiry, attributes })
        }
        _ => Err(fields.error()),
    }
}

pub(in crate::grpc) fn bind_response(bound: Bound) -> v1::BindSessionResponse {
    match bound {
        Bound::Done { session, already } => v1::BindSessionResponse {
            verdict: v1::Verdict::Valid.into(),
            session: Some(session_message(*session)),
            already_bound: already,
        },
        Bound::Denied(verdict, _) => v1::BindSessionResponse {
            verdict: session_verdict_number(verdict).into(),
            ..v1::BindSessionResponse::default()
        },
    }
}

pub(in crate::grpc) fn unbind_request(
    request: &v1::UnbindSessionRequest,
) -> Result<(SessionId, TenantId), ApiError> {
    let mut fields = Fields::new();
    let id = fields.take("session_id", SessionId::parse(&request.session_id));
    let tenant = fields.take("tenant_id", TenantId::parse(&request.tenant_id));
    match (id, tenant) {
        (Some(id), Some(tenant)) => Ok((id, tenant)),
        _ => Err(fields.error()),
    }
}

pub(in crate::grpc) fn list_sessions_request(
    request: &v1::ListSessionsRequest,
) -> Result<(TenantId, PageRequest<Cursor>), ApiError> {
    let mut fields = Fields::new();
    let tenant = fields.take("tenant_id", TenantId::parse(&request.tenant_id));
    let page = fields.page(request.page_size, &request.page_token, |text| {
        let (at, id) = text.split_once(' ')?;
        Some((UnixMillis(at.parse().ok()?), SessionId::parse(id).ok()?))
    });
    match (tenant, page) {
        (Some(tenant), Some(page)) => Ok((tenant, page)),
        _ => Err(fields.error()),
    }
}

pub(in crate::grpc) fn list_sessions_response(page: Page<Session, Cursor>) -> v1::ListSessionsResponse {
    v1::ListSessionsResponse {
        next_page_token: page_token(page.next.map(|(at, id)| format!("{} {}", at.0, id.as_str()))),
        sessions: page.items.into_iter().map(session_message).collect(),
    }
}

pub(in crate::grpc) fn session_question(
    request: v1::ValidateSessionRequest,
) -> Result<SessionQuestion, ApiError> {
    let mut fields = Fields::new();
    let key = PresentedKey::new(request.key);
    let key = (!key.expose().is_empty()).then_some(key);
    let id = fields.take("session_id", SessionId::parse(&request.session_id));
    let required_scopes = fields.scopes("required_scopes", &request.required_scopes);
    match (id, required_scopes) {
        (Some(id), Some(required_scopes)) => Ok(SessionQuestion { id, key, required_scopes }),
        _ => Err(fields.error()),
    }
}

/// A decision as it travels.
pub(in crate::grpc) fn session_decision_message(decision: SessionDecision) -> v1::ValidateSessionResponse {
    let SessionDecision { verdict, session, ends_at, missing_scopes, presented_key, provenance } = decision;
    let mut message = v1::ValidateSessionResponse {
        verdict: session_verdict_number(verdict).into(),
        provenance: Some(provenance_message(provenance)),
        missing_scopes: scope_names(&missing_scopes),
        expires_at: ends_at.map(timestamp),
        presented_key_id: presented_key.map(|id| id.as_str().to_owned()).unwrap_or_default(),
        ..v1::ValidateSessionResponse::default()
    };
    if let Some(session) = session {
        message.tenant_id = session.key.tenant_id.as_str().to_owned();
        message.tenant_name = session.key.tenant_name.as_str().to_owned();
        message.plan = session.key.plan.as_str().to_owned();
        message.key_id = session.key.key_id.as_str().to_owned();
        message.scopes = scope_names(&session.key.scopes);
        message.attributes = attributes_message(&session.session.attributes);
    }
    message
}

fn session_message(session: Session) -> v1::Session {
    let expiry = match session.expiry {
        Expiry::Fixed => v1::SessionExpiry::Fixed,
        Expiry::Sliding => v1::SessionExpiry::Sliding,
    };
    v1::Session {
        session_id: session.id.as_str().to_owned(),
        tenant_id: session.tenant_id.as_str().to_owned(),
        key_id: session.key_id.as_str().to_owned(),
        created_at: Some(timestamp(session.created_at)),
        expires_at: Some(timestamp(session.expires_at)),
        expiry: expiry.into(),
        attributes: attributes_message(&session.attributes),
    }
}

fn attributes_message(attributes: &Attributes) -> std::collections::HashMap<String, String> {
    attributes.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn session_verdict_number(verdict: SessionVerdict) -> v1::Verdict {
    match verdict {
        SessionVerdict::Key(verdict) => verdict_number(verdict),
        SessionVerdict::Unbound => v1::Verdict::Unbound,
        SessionVerdict::Expired => v1::Verdict::SessionExpired,
        SessionVerdict::TenantMismatch => v1::Verdict::TenantMismatch,
    }
}
