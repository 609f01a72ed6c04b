//! What a replica thinks of its database.

use tenant_auth_proto::v1::{self, held_end::Subject as HeldSubject};

use super::{fields::Fields, time::duration, timestamp};
use crate::{
    domain::{
        change::Fate,
        identity::{DatabaseIdentity, Doubt},
        recovery::{DatabaseState, HeldEnd},
        text::Reason,
        watch::Subject,
    },
    grpc::error::ApiError,
};

/// The reason of a change that names nothing else.
pub(in crate::grpc) fn reason(text: &str) -> Result<Reason, ApiError> {
    let mut fields = Fields::new();
    fields.take("reason", Reason::parse(text)).ok_or_else(|| fields.error())
}

pub(in crate::grpc) fn database_identity_message(identity: DatabaseIdentity) -> v1::DatabaseIdentity {
    v1::DatabaseIdentity { database_id: identity.id.into(), epoch: identity.epoch }
}

pub(in crate::grpc) fn held_end_message((change, fate): HeldEnd) -> v1::HeldEnd {
    let revoked_at = match fate {
        Fate::Revoked(at) => Some(timestamp(at)),
        Fate::Changed | Fate::Suspended | Fate::Unbound => None,
    };
    let subject = match change.subject {
        Subject::Key(id) => HeldSubject::KeyId(id.to_string()),
        Subject::Tenant(id) => HeldSubject::SuspendedTenantId(id.to_string()),
        Subject::Session(id) => HeldSubject::SessionId(id.as_str().to_owned()),
    };
    v1::HeldEnd {
        subject: Some(subject),
        tenant_id: change.tenant.to_string(),
        revoked_at,
        revision: change.revision.0,
    }
}

pub(in crate::grpc) fn database_state_message(state: DatabaseState) -> v1::GetDatabaseStateResponse {
    let DatabaseState { trust, standstill, held } = state;
    let doubt = match trust.doubt.map(|(doubt, _)| doubt) {
        None => v1::DatabaseDoubt::Unspecified,
        Some(Doubt::Another) => v1::DatabaseDoubt::AnotherDatabase,
        Some(Doubt::Empty) => v1::DatabaseDoubt::Empty,
        Some(Doubt::RolledBack) => v1::DatabaseDoubt::RolledBack,
    };
    let found_revision = trust.found.as_ref().map_or(0, |(_, log_end)| log_end.0);
    v1::GetDatabaseStateResponse {
        known: trust.known.map(database_identity_message),
        revision: trust.position.0,
        doubt: doubt.into(),
        doubted_since: trust.doubt.map(|(_, since)| timestamp(since.wall)),
        found: trust.found.and_then(|(found, _)| found).map(database_identity_message),
        found_revision,
        standstill: standstill.map(duration),
        held: held.into_iter().map(held_end_message).collect(),
    }
}
