//! Messages of `Watch`.

use tenant_auth_proto::v1::{self, watch_response::Event};

use super::{fields::FieldValidator, time::timestamp};
use crate::{
    domain::{
        verdict::Revision,
        watch::{Invalidation, Subject, WatchEvent},
    },
    grpc::error::ApiError,
};

/// Parses the revision after which the stream starts; `None` for now.
pub(in crate::grpc) fn parse_watch(request: &v1::WatchRequest) -> Result<Option<Revision>, ApiError> {
    match request.resume_after_revision {
        0 => Ok(None),
        revision @ 1.. => Ok(Some(Revision(revision))),
        ..0 => {
            let mut fields = FieldValidator::new();
            fields.add_violation("resume_after_revision", "must not be negative");
            Err(fields.into_error())
        }
    }
}

pub(in crate::grpc) fn watch_messages(
    event: WatchEvent,
) -> Box<dyn Iterator<Item = v1::WatchResponse> + Send> {
    let one = |revision: Revision, event| {
        Box::new(std::iter::once(v1::WatchResponse { revision: revision.0, event: Some(event) }))
    };
    match event {
        WatchEvent::Heartbeat { revision, at } => {
            one(revision, Event::Heartbeat(v1::Heartbeat { sent_at: Some(timestamp(at)) }))
        }
        WatchEvent::StartOver { revision, reason } => {
            one(revision, Event::StartOver(v1::StartOver { reason: reason.to_owned() }))
        }
        // Created one by one from the changes that all subscribers share.
        WatchEvent::Changed(changes) => {
            let one = move |at| changes.get(at).map(invalidation_message);
            Box::new((0..).map_while(one))
        }
    }
}

fn invalidation_message(change: &Invalidation) -> v1::WatchResponse {
    let (scope, id) = match &change.subject {
        Subject::Key(id) => (v1::InvalidationScope::Key, id.as_str()),
        Subject::Tenant(id) => (v1::InvalidationScope::Tenant, id.as_str()),
        Subject::Session(id) => (v1::InvalidationScope::Session, id.as_str()),
    };
    let invalidation = v1::Invalidation {
        scope: scope.into(),
        id: id.to_owned(),
        tenant_id: change.tenant.as_str().to_owned(),
    };
    v1::WatchResponse { revision: change.revision.0, event: Some(Event::Invalidation(invalidation)) }
}
