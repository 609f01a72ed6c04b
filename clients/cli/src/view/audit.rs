//! The view of the audit log.

use serde::Serialize;
use tenant_auth_client::proto;

use super::{non_empty, to_moment, to_text};
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
            at: to_moment(event.at),
            caller: event.caller,
            action: event.action,
            target: event.target,
            tenant_id: non_empty(event.tenant_id),
            request_id: non_empty(event.request_id),
            detail: non_empty(event.detail),
        }
    }
}

impl EventView {
    /// Returns the entry as one line.
    pub(super) fn line(&self) -> String {
        let detail = self.detail.as_ref().map_or_else(String::new, |detail| format!(": {detail}"));
        format!("{} {} {} by {}{detail}", to_text(self.at), self.action, self.target, self.caller)
    }
}

impl Item for EventView {
    const LIST: &'static str = "events";
    const HEADER: &'static [&'static str] = &["AT", "ACTION", "TARGET", "TENANT", "CALLER", "DETAIL"];

    fn row(&self) -> Vec<String> {
        vec![
            to_text(self.at),
            self.action.clone(),
            self.target.clone(),
            to_text(self.tenant_id.as_ref()),
            self.caller.clone(),
            to_text(self.detail.as_ref()),
        ]
    }
}
