//! The audit log.

use serde::Serialize;
use tenant_auth_client::proto;

use super::{filled, moment, or_empty, rest};
use crate::{
    output::{self, View},
    page::Listing,
    time::Moment,
};

#[derive(Debug, Serialize)]
pub(crate) struct AuditView {
    events: Vec<EventView>,
    more: bool,
}

#[derive(Debug, Serialize)]
struct EventView {
    seq: i64,
    at: Option<Moment>,
    caller: String,
    action: String,
    target: String,
    tenant_id: Option<String>,
    request_id: Option<String>,
    detail: Option<String>,
}

impl AuditView {
    pub(crate) fn new(listing: Listing<proto::AuditEvent>) -> Self {
        let events = listing.items.into_iter().map(EventView::new);
        Self { events: events.collect(), more: listing.more }
    }
}

impl EventView {
    fn new(event: proto::AuditEvent) -> Self {
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

impl View for AuditView {
    fn text(&self) -> String {
        let row = |event: &EventView| {
            vec![
                or_empty(event.at),
                event.action.clone(),
                event.target.clone(),
                or_empty(event.tenant_id.as_ref()),
                event.caller.clone(),
                or_empty(event.detail.as_ref()),
            ]
        };
        let header = ["AT", "ACTION", "TARGET", "TENANT", "CALLER", "DETAIL"];
        output::list(&header, self.events.iter().map(row))
    }

    fn note(&self) -> Option<&'static str> {
        rest(self.more)
    }
}
