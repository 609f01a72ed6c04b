//! Messages of the database state: identity, trust and retained revocations.

use tenant_auth_proto::v1::{self, retained_revocation::Subject as RetainedSubject};

use super::{fields::FieldValidator, time::duration, timestamp};
use crate::{
    domain::{
        change::ChangeKind,
        identity::{DatabaseIdentity, DistrustReason},
        recovery::{DatabaseState, RetainedRevocation},
        text::Reason,
        watch::Subject,
    },
    grpc::error::ApiError,
};

/// Parses a request whose only field is a reason.
pub(in crate::grpc) fn parse_reason(text: &str) -> Result<Reason, ApiError> {
    let mut fields = FieldValidator::new();
    fields.check("reason", Reason::parse(text)).ok_or_else(|| fields.into_error())
}

pub(in crate::grpc) fn database_identity_message(identity: DatabaseIdentity) -> v1::DatabaseIdentity {
    v1::DatabaseIdentity { database_id: identity.id.into(), epoch: identity.epoch }
}

pub(in crate::grpc) fn retained_revocation_message(
    (change, kind): RetainedRevocation,
) -> v1::RetainedRevocation {
    let revoked_at = match kind {
        ChangeKind::Revoked(at) => Some(timestamp(at)),
        ChangeKind::Changed | ChangeKind::Disabled | ChangeKind::Suspended | ChangeKind::Unbound => None,
    };
    let subject = match change.subject {
        Subject::Key(id) if kind == ChangeKind::Disabled => RetainedSubject::DisabledKeyId(id.to_string()),
        Subject::Key(id) => RetainedSubject::KeyId(id.to_string()),
        Subject::Tenant(id) => RetainedSubject::SuspendedTenantId(id.to_string()),
        Subject::Session(id) => RetainedSubject::SessionId(id.as_str().to_owned()),
    };
    v1::RetainedRevocation {
        subject: Some(subject),
        tenant_id: change.tenant.to_string(),
        revoked_at,
        revision: change.revision.0,
    }
}

pub(in crate::grpc) fn database_state_message(state: DatabaseState) -> v1::GetDatabaseStateResponse {
    let DatabaseState { trust, stalled_for, retained } = state;
    let distrust = match trust.distrust.map(|(distrust, _)| distrust) {
        None => v1::DatabaseDistrustReason::Unspecified,
        Some(DistrustReason::Another) => v1::DatabaseDistrustReason::AnotherDatabase,
        Some(DistrustReason::Empty) => v1::DatabaseDistrustReason::Empty,
        Some(DistrustReason::RolledBack) => v1::DatabaseDistrustReason::RolledBack,
    };
    let found_revision = trust.found.as_ref().map_or(0, |(_, log_end)| log_end.0);
    v1::GetDatabaseStateResponse {
        known: trust.known.map(database_identity_message),
        revision: trust.position.0,
        distrust_reason: distrust.into(),
        distrusted_since: trust.distrust.map(|(_, since)| timestamp(since.wall)),
        found: trust.found.and_then(|(found, _)| found).map(database_identity_message),
        found_revision,
        read_replica_stalled_for: stalled_for.map(duration),
        retained_revocations: retained.into_iter().map(retained_revocation_message).collect(),
    }
}
