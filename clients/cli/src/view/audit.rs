//! The audit log.

use serde::Serialize;
use tenant_auth_client::proto;

use super::{filled, moment, or_empty};
use crate::{output::Item, time::Moment};

#[derive(Debug, Serialize)]
pub(crate) struct EventView {
    seq: i64,
    at: Option<Moment>,
    caller: String,
    action: String,
    target: String,
    tenant_id: Option<String>,
    request_id: Option<String>,
    detail: Option<String>,
}

impl EventView {
    pub(crate) fn new(event: proto::AuditEvent) -> Self {
        Self {
            seq: event.seq,
            at: moment(event.at),
            caller: event.caller,
            action: event.action,
            target: event.target,
            tenant_id: filled(event.tenant_id),
            request_id: filled(event.request_id),
            detail: filled(event.detail),
        }
    }
}

impl Item for EventView {
    const LIST: &'static str = "events";
    const HEADER: &'static [&'static str] = &["AT", "ACTION", "TARGET", "TENANT", "CALLER", "DETAIL"];

    fn row(&self) -> Vec<String> {
        vec![
            or_empty(self.at),
            self.action.clone(),
            self.target.clone(),
            or_empty(self.tenant_id.as_ref()),
            self.caller.clone(),
            or_empty(self.detail.as_ref()),
        ]
    }
}
