//! Messages of the audit log.

use tenant_auth_proto::v1;

use super::{
    admin::parse_optional_timestamp,
    fields::{FieldValidator, page_token},
    timestamp,
};
use crate::{
    domain::{
        audit::{AuditCursor, AuditEvent, AuditFilter, AuditTerm},
        id::TenantId,
        page::{Page, PageRequest},
    },
    grpc::error::ApiError,
};

pub(in crate::grpc) fn parse_list_audit_events(
    request: &v1::ListAuditEventsRequest,
) -> Result<(AuditFilter, PageRequest<AuditCursor>), ApiError> {
    let mut fields = FieldValidator::new();
    let tenant = match &*request.tenant_id {
        "" => None,
        id => fields.check("tenant_id", TenantId::parse(id)),
    };
    let mut term = |field, text: &str| match text {
        "" => None,
        text => fields.check(field, AuditTerm::parse(text)),
    };
    let (target, caller) = (term("target", &request.target), term("caller", &request.caller));
    let action = term("action", &request.action);
    let since = parse_optional_timestamp(&mut fields, "since", request.since).flatten();
    let until = parse_optional_timestamp(&mut fields, "until", request.until).flatten();
    if since.zip(until).is_some_and(|(since, until)| since >= until) {
        fields.add_violation("until", "must be after since");
    }
    match fields.parse_page(request.page_size, &request.page_token, AuditCursor::parse) {
        Some(page) if fields.is_valid() => {
            Ok((AuditFilter { tenant, target, caller, action, since, until }, page))
        }
        _ => Err(fields.into_error()),
    }
}

pub(in crate::grpc) fn audit_response(page: Page<AuditEvent, AuditCursor>) -> v1::ListAuditEventsResponse {
    v1::ListAuditEventsResponse {
        next_page_token: page_token(page.next),
        events: page.items.into_iter().map(audit_event_message).collect(),
    }
}

pub(super) fn audit_event_message(event: AuditEvent) -> v1::AuditEvent {
    v1::AuditEvent {
        seq: event.seq,
        at: Some(timestamp(event.at)),
        caller: event.caller,
        action: event.action,
        target: event.target,
        tenant_id: event.tenant_id,
        request_id: event.request_id,
        detail: event.detail,
    }
}
