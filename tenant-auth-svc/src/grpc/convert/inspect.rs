//! Messages of the cached state of a key on this replica.

use tenant_auth_proto::v1;

use super::{
    replica::lookup_state,
    time::duration,
    timestamp,
    validation::{network_texts, proto_source, proto_verdict, scope_names},
};
use crate::domain::{
    change::ChangeKind,
    inspect::{AppliedChange, InspectedRecord, KeyInspection},
    verdict::Verdict,
};

pub(in crate::grpc) fn inspection_message(inspection: KeyInspection) -> v1::InspectKeyResponse {
    let KeyInspection {
        key_id: _,
        cached,
        last_change,
        is_on_deny_list: on_deny_list,
        replica,
        now,
        records,
    } = inspection;
    v1::InspectKeyResponse {
        cached: cached.map(cached_key_message),
        last_change: last_change.map(last_change_message),
        on_deny_list,
        revision: replica.revision.0,
        feed_age: replica.feed_age.map(duration),
        lookups: lookup_state(replica.upstream_health).into(),
        now: Some(timestamp(now)),
        records: i64::try_from(records).unwrap_or(i64::MAX),
    }
}

fn cached_key_message((cached, verdict): (InspectedRecord, Verdict)) -> v1::CachedKey {
    let record = &cached.record;
    v1::CachedKey {
        tenant_id: record.tenant.id.to_string(),
        verdict: proto_verdict(verdict).into(),
        source: proto_source(cached.source).into(),
        age: Some(duration(cached.age)),
        revision: cached.revision.0,
        expires_at: record.expires_at.get().map(timestamp),
        revoked_at: record.revoked_at.get().map(timestamp),
        tenant_suspended: cached.is_tenant_suspended(),
        preloaded: cached.hash.is_none(),
        disabled: record.is_disabled,
        scopes: scope_names(&record.scopes),
        allowed_networks: network_texts(&record.allowed_networks),
    }
}

fn last_change_message(AppliedChange { event, applied_at }: AppliedChange) -> v1::AppliedChange {
    let revoked_at = match event.kind {
        ChangeKind::Revoked(at) => Some(timestamp(at)),
        ChangeKind::Changed | ChangeKind::Disabled | ChangeKind::Suspended | ChangeKind::Unbound => None,
    };
    v1::AppliedChange {
        revision: event.revision.map_or(0, |revision| revision.0),
        revoked_at,
        disabled: event.kind == ChangeKind::Disabled,
        applied_at: applied_at.map(timestamp),
    }
}
