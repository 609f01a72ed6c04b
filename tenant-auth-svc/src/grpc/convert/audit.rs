//! The audit log.

use tenant_auth_proto::v1;

use super::{
    admin::optional_moment,
    fields::{Fields, page_token},
    timestamp,
};
use crate::{
    domain::{
        audit::{AuditEvent, AuditFilter, AuditPosition, AuditTerm},
        id::TenantId,
        page::{Page, PageRequest},
    },
    grpc::error::ApiError,
};

pub(in crate::grpc) fn audit_request(
    request: &v1::ListAuditEventsRequest,
) -> Result<(AuditFilter, PageRequest<AuditPosition>), ApiError> {
    let mut fields = Fields::new();
    let tenant = match &*request.tenant_id {
        "" => None,
        id => fields.take("tenant_id", TenantId::parse(id)),
    };
    let mut term = |field, text: &str| match text {
        "" => None,
        text => fields.take(field, AuditTerm::parse(text)),
    };
    let (target, caller) = (term("target", &request.target), term("caller", &request.caller));
    let since = optional_moment(&mut fields, "since", request.since).flatten();
    let until = optional_moment(&mut fields, "until", request.until).flatten();
    if since.zip(until).is_some_and(|(since, until)| since >= until) {
        fields.violation("until", "must be after since");
    }
    match fields.page(request.page_size, &request.page_token, AuditPosition::parse) {
        Some(page) if fields.is_valid() => Ok((AuditFilter { tenant, target, caller, since, until }, page)),
        _ => Err(fields.error()),
    }
}

pub(in crate::grpc) fn audit_response(page: Page<AuditEvent, AuditPosition>) -> v1::ListAuditEventsResponse {
    let event = |event: AuditEvent| v1::AuditEvent {
        seq: event.seq,
        at: Some(timestamp(event.at)),
        caller: event.caller,
        action: event.action,
        target: event.target,
        tenant_id: event.tenant_id,
        request_id: event.request_id,
        detail: event.detail,
    };
    v1::ListAuditEventsResponse {
        next_page_token: page_token(page.next),
        events: page.items.into_iter().map(event).collect(),
    }
}
