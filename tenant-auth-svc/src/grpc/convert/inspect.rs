//! What this replica holds of a key.

use tenant_auth_proto::v1;

use super::{
    time::duration,
    timestamp,
    validation::{source_number, verdict_number},
};
use crate::domain::{
    change::{Fate, News},
    freshness::World,
    inspect::{HeldRecord, KeyInspection},
    verdict::Verdict,
};

pub(in crate::grpc) fn inspection_message(inspection: KeyInspection) -> v1::InspectKeyResponse {
    let KeyInspection { held, heard, on_deny_list, replica, now, records } = inspection;
    let lookups = match replica.world {
        World::Heard => v1::LookupState::Healthy,
        World::Silent => v1::LookupState::FeedSilent,
        World::Failing { .. } => v1::LookupState::BreakerOpen,
    };
    v1::InspectKeyResponse {
        held: held.map(held_message),
        heard: heard.map(heard_message),
        on_deny_list,
        revision: replica.revision.0,
        feed_age: replica.feed_age.map(duration),
        lookups: lookups.into(),
        now: Some(timestamp(now)),
        records: i64::try_from(records).unwrap_or(i64::MAX),
    }
}

fn held_message((held, verdict): (HeldRecord, Verdict)) -> v1::HeldKey {
    let record = &held.record;
    v1::HeldKey {
        tenant_id: record.tenant_id.to_string(),
        verdict: verdict_number(verdict).into(),
        source: source_number(held.source).into(),
        age: Some(duration(held.age)),
        revision: held.revision.0,
        expires_at: record.expires_at.map(timestamp),
        revoked_at: record.revoked_at.map(timestamp),
        tenant_suspended: held.is_tenant_suspended(),
        read_ahead: held.hash.is_none(),
    }
}

fn heard_message(heard: News) -> v1::HeardChange {
    let revoked_at = match heard.fate {
        Fate::Revoked(at) => Some(timestamp(at)),
        Fate::Changed | Fate::Suspended | Fate::Unbound => None,
    };
    v1::HeardChange { revision: heard.revision.map_or(0, |revision| revision.0), revoked_at }
}
