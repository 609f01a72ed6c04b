//! What this replica holds of a key.

use tenant_auth_proto::v1;

use super::{
    time::duration,
    timestamp,
    validation::{proto_source, proto_verdict},
};
use crate::domain::{
    cache_policy::UpstreamHealth,
    change::{ChangeEvent, ChangeKind},
    inspect::{InspectedRecord, KeyInspection},
    verdict::Verdict,
};

pub(in crate::grpc) fn inspection_message(inspection: KeyInspection) -> v1::InspectKeyResponse {
    let KeyInspection {
        cached: held,
        last_change: heard,
        is_on_deny_list: on_deny_list,
        replica,
        now,
        records_scanned: records,
    } = inspection;
    let lookups = match replica.upstream_health {
        UpstreamHealth::Healthy => v1::LookupState::Healthy,
        UpstreamHealth::FeedSilent => v1::LookupState::FeedSilent,
        UpstreamHealth::Failing { .. } => v1::LookupState::BreakerOpen,
    };
    v1::InspectKeyResponse {
        held: held.map(held_key_message),
        heard: heard.map(last_change_message),
        on_deny_list,
        revision: replica.revision.0,
        feed_age: replica.feed_age.map(duration),
        lookups: lookups.into(),
        now: Some(timestamp(now)),
        records: i64::try_from(records).unwrap_or(i64::MAX),
    }
}

fn held_key_message((held, verdict): (InspectedRecord, Verdict)) -> v1::HeldKey {
    let record = &held.record;
    v1::HeldKey {
        tenant_id: record.tenant_id.to_string(),
        verdict: proto_verdict(verdict).into(),
        source: proto_source(held.source).into(),
        age: Some(duration(held.age)),
        revision: held.revision.0,
        expires_at: record.expires_at.map(timestamp),
        revoked_at: record.revoked_at.map(timestamp),
        tenant_suspended: held.is_tenant_suspended(),
        read_ahead: held.hash.is_none(),
    }
}

fn last_change_message(heard: ChangeEvent) -> v1::HeardChange {
    let revoked_at = match heard.kind {
        ChangeKind::Revoked(at) => Some(timestamp(at)),
        ChangeKind::Changed | ChangeKind::Suspended | ChangeKind::Unbound => None,
    };
    v1::HeardChange { revision: heard.revision.map_or(0, |revision| revision.0), revoked_at }
}
