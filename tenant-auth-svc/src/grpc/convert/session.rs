//! Messages of sessions.

use tenant_auth_proto::v1;

use super::{
    fields::{FieldValidator, page_token},
    time::{parse_duration, timestamp},
    validation::{network_texts, proto_verdict, provenance_message, scope_names},
};
use crate::{
    domain::{
        clock::UnixMillis,
        id::TenantId,
        key::PresentedKey,
        page::{Page, PageRequest},
        session::{Attributes, Session, SessionExpiry, SessionId, SessionVerdict, Ttl},
        sessions::{BindOutcome, SessionDecision, SessionQuery, SessionToBind},
        text::Reason,
    },
    grpc::error::ApiError,
};

/// The cursor of a page of sessions.
type SessionCursor = (UnixMillis, SessionId);

pub(in crate::grpc) fn parse_bind_session(
    request: v1::BindSessionRequest,
) -> Result<SessionToBind, ApiError> {
    let mut fields = FieldValidator::new();
    // The key is moved into its self-wiping type before any check can fail.
    let key = PresentedKey::new(request.key);
    if key.expose().is_empty() {
        fields.add_violation("key", "must not be empty");
    }
    let id = fields.check("session_id", SessionId::parse(&request.session_id));
    let expiry = match v1::SessionExpiry::try_from(request.expiry) {
        Ok(v1::SessionExpiry::Unspecified | v1::SessionExpiry::Fixed) => Some(SessionExpiry::Fixed),
        Ok(v1::SessionExpiry::Sliding) => Some(SessionExpiry::Sliding),
        Err(_) => {
            fields.add_violation("expiry", format!("unknown value {}", request.expiry));
            None
        }
    };
    let ttl = match request.ttl {
        None => {
            fields.add_violation("ttl", "must be set");
            None
        }
        Some(ttl) => {
            let ttl = fields.check("ttl", parse_duration(ttl));
            ttl.and_then(|ttl| fields.check("ttl", Ttl::new(ttl, expiry.unwrap_or(SessionExpiry::Fixed))))
        }
    };
    let attributes = fields.check("attributes", Attributes::new(request.attributes));
    let client_address = fields.parse_client_address(&request.client_address);
    match (id, ttl, expiry, attributes, client_address) {
        (Some(id), Some(ttl), Some(expiry), Some(attributes), Some(client_address)) if fields.is_valid() => {
            Ok(SessionToBind { id, key, ttl, expiry, attributes, client_address })
        }
        _ => Err(fields.into_error()),
    }
}

pub(in crate::grpc) fn bind_response(bound: BindOutcome) -> v1::BindSessionResponse {
    match bound {
        BindOutcome::Bound { session, already } => v1::BindSessionResponse {
            verdict: v1::Verdict::Valid.into(),
            session: Some(session_message(*session)),
            already_bound: already,
        },
        BindOutcome::Denied(verdict, _) => v1::BindSessionResponse {
            verdict: proto_session_verdict(verdict).into(),
            ..v1::BindSessionResponse::default()
        },
    }
}

pub(in crate::grpc) fn parse_unbind_session(
    request: &v1::UnbindSessionRequest,
) -> Result<(SessionId, TenantId, Option<Reason>), ApiError> {
    let mut fields = FieldValidator::new();
    let id = fields.check("session_id", SessionId::parse(&request.session_id));
    let tenant = fields.check("tenant_id", TenantId::parse(&request.tenant_id));
    let reason = fields.parse_optional_reason(&request.reason);
    match (id, tenant, reason) {
        (Some(id), Some(tenant), Some(reason)) => Ok((id, tenant, reason)),
        _ => Err(fields.into_error()),
    }
}

pub(in crate::grpc) fn parse_list_sessions(
    request: &v1::ListSessionsRequest,
) -> Result<(TenantId, PageRequest<SessionCursor>), ApiError> {
    let mut fields = FieldValidator::new();
    let tenant = fields.check("tenant_id", TenantId::parse(&request.tenant_id));
    let page = fields.parse_page(request.page_size, &request.page_token, |text| {
        let (at, id) = text.split_once(' ')?;
        Some((UnixMillis(at.parse().ok()?), SessionId::parse(id).ok()?))
    });
    match (tenant, page) {
        (Some(tenant), Some(page)) => Ok((tenant, page)),
        _ => Err(fields.into_error()),
    }
}

pub(in crate::grpc) fn list_sessions_response(
    page: Page<Session, SessionCursor>,
) -> v1::ListSessionsResponse {
    v1::ListSessionsResponse {
        next_page_token: page_token(page.next.map(|(at, id)| format!("{} {}", at.0, id.as_str()))),
        sessions: page.items.into_iter().map(session_message).collect(),
    }
}

pub(in crate::grpc) fn parse_session_query(
    request: v1::ValidateSessionRequest,
) -> Result<SessionQuery, ApiError> {
    let mut fields = FieldValidator::new();
    let key = PresentedKey::new(request.key);
    let key = (!key.expose().is_empty()).then_some(key);
    let id = fields.check("session_id", SessionId::parse(&request.session_id));
    let required_scopes = fields.parse_scopes("required_scopes", &request.required_scopes);
    let client_address = fields.parse_client_address(&request.client_address);
    match (id, required_scopes, client_address) {
        (Some(id), Some(required_scopes), Some(client_address)) => {
            Ok(SessionQuery { id, key, required_scopes, client_address })
        }
        _ => Err(fields.into_error()),
    }
}

/// Converts a decision about a session.
pub(in crate::grpc) fn session_decision_message(decision: SessionDecision) -> v1::ValidateSessionResponse {
    let SessionDecision {
        verdict,
        session,
        expires_at,
        missing_scopes,
        presented_key,
        presented_key_networks,
        provenance,
    } = decision;
    let mut message = v1::ValidateSessionResponse {
        verdict: proto_session_verdict(verdict).into(),
        provenance: Some(provenance_message(provenance)),
        missing_scopes: scope_names(&missing_scopes),
        expires_at: expires_at.map(timestamp),
        presented_key_allowed_networks: network_texts(&presented_key_networks),
        presented_key_id: presented_key.map(|id| id.as_str().to_owned()).unwrap_or_default(),
        ..v1::ValidateSessionResponse::default()
    };
    if let Some(session) = session {
        message.tenant_id = session.key.tenant.id.as_str().to_owned();
        message.tenant_name = session.key.tenant.name.as_str().to_owned();
        message.plan = session.key.tenant.plan.as_str().to_owned();
        message.key_id = session.key.key_id.unpack().as_str().to_owned();
        message.scopes = scope_names(&session.key.scopes);
        message.allowed_networks = network_texts(&session.key.allowed_networks);
        message.attributes = attributes_message(&session.session.attributes);
    }
    message
}

fn session_message(session: Session) -> v1::Session {
    let expiry = match session.expiry {
        SessionExpiry::Fixed => v1::SessionExpiry::Fixed,
        SessionExpiry::Sliding => v1::SessionExpiry::Sliding,
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

pub(super) fn proto_session_verdict(verdict: SessionVerdict) -> v1::Verdict {
    match verdict {
        SessionVerdict::Key(verdict) => proto_verdict(verdict),
        SessionVerdict::Unbound => v1::Verdict::Unbound,
        SessionVerdict::Expired => v1::Verdict::SessionExpired,
        SessionVerdict::TenantMismatch => v1::Verdict::TenantMismatch,
    }
}
