//! Encodes decisions of the cache directly into bytes, without a message in between.
//!
//! The bytes equal those that prost writes for [`decision_message`](super::validation::decision_message); a
//! test compares them. This saves a copy of every string of the record per response.

use std::{io::Write as _, time::Duration};

use bytes::Bytes;

use super::{
    time::{duration, timestamp},
    validation::{proto_source, proto_verdict},
    wire::{encode_frame, put_bytes, put_field_header, put_number, put_short_message, put_text, varint_len},
};
use crate::domain::{
    scope::ScopeSet,
    verdict::{Decision, Provenance},
};

// Field numbers of ValidateKeyResponse.
const VERDICT: u8 = 1;
const TENANT_ID: u8 = 2;
const TENANT_NAME: u8 = 3;
const PLAN: u8 = 4;
const KEY_ID: u8 = 5;
const SCOPES: u8 = 6;
const EXPIRES_AT: u8 = 7;
const PROVENANCE: u8 = 8;
const MISSING_SCOPES: u8 = 9;
const ALLOWED_NETWORKS: u8 = 10;
// Field numbers of Provenance.
const SOURCE: u8 = 1;
const AGE: u8 = 2;
const REVISION: u8 = 3;
const CACHEABLE_FOR: u8 = 4;
const CACHEABLE_WHILE_WATCHED: u8 = 5;
// Field numbers of Timestamp and of Duration.
const SECONDS: u8 = 1;
const NANOS: u8 = 2;
// `results` of BatchValidateKeysResponse, and `response` of each result.
const RESULTS: u8 = 1;
const RESPONSE: u8 = 1;

/// Encodes a decision as a complete frame.
pub(crate) fn encode_decision_frame(decision: &Decision) -> Bytes {
    encode_frame(|frame, _| put_decision(decision, frame))
}

/// Encodes the decisions of a batch as a complete frame.
pub(crate) fn encode_batch_frame(decisions: &[Decision]) -> Bytes {
    encode_frame(|frame, buffer| {
        for decision in decisions {
            buffer.clear();
            put_decision(decision, buffer);
            let len = 1 + varint_len(buffer.len()) + buffer.len();
            put_field_header(RESULTS, len, frame);
            put_bytes(RESPONSE, buffer, frame);
        }
    })
}

pub(super) fn put_decision(decision: &Decision, out: &mut Vec<u8>) {
    put_number(VERDICT, i32::from(proto_verdict(decision.verdict)).into(), out);
    if let Some(key) = &decision.key {
        put_text(TENANT_ID, key.tenant.id.as_str(), out);
        put_text(TENANT_NAME, &key.tenant.name, out);
        put_text(PLAN, &key.tenant.plan, out);
        put_text(KEY_ID, key.key_id.unpack().as_str(), out);
        put_scopes(SCOPES, &key.scopes, out);
        if let Some(expires_at) = key.expires_at.get().map(timestamp) {
            put_short_message(EXPIRES_AT, out, |out| {
                put_seconds_and_nanos(expires_at.seconds, expires_at.nanos, out)
            });
        }
    }
    put_short_message(PROVENANCE, out, |out| put_provenance(decision.provenance, out));
    put_scopes(MISSING_SCOPES, &decision.missing_scopes, out);
    if let Some(key) = &decision.key {
        for network in key.allowed_networks.iter() {
            // Writing to a vector never fails.
            put_short_message(ALLOWED_NETWORKS, out, |out| drop(write!(out, "{network}")));
        }
    }
}

fn put_provenance(provenance: Provenance, out: &mut Vec<u8>) {
    put_number(SOURCE, i32::from(proto_source(provenance.source)).into(), out);
    put_short_message(AGE, out, |out| put_duration(provenance.age, out));
    put_number(REVISION, provenance.revision.0, out);
    put_short_message(CACHEABLE_FOR, out, |out| put_duration(provenance.reuse.unwatched, out));
    put_short_message(CACHEABLE_WHILE_WATCHED, out, |out| put_duration(provenance.reuse.watched, out));
}

pub(super) fn put_duration(value: Duration, out: &mut Vec<u8>) {
    let value = duration(value);
    put_seconds_and_nanos(value.seconds, value.nanos, out);
}

pub(super) fn put_seconds_and_nanos(seconds: i64, nanos: i32, out: &mut Vec<u8>) {
    put_number(SECONDS, seconds, out);
    put_number(NANOS, nanos.into(), out);
}

fn put_scopes(field: u8, scopes: &ScopeSet, out: &mut Vec<u8>) {
    for scope in scopes.iter() {
        put_bytes(field, scope.as_bytes(), out);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use prost::Message as _;
    use tenant_auth_proto::v1;

    use super::*;
    use crate::{
        domain::{
            client_reuse::ClientReuse,
            clock::{OptionalMillis, UnixMillis},
            id::{KeyId, TenantId},
            key::KeyRecord,
            network::AllowedNetworks,
            scope::Scope,
            tenant::{TenantSnapshot, TenantStatus},
            verdict::{Provenance, Revision, Source, Verdict},
        },
        grpc::convert::{decision_message, wire::FRAME_HEADER_LEN},
    };

    fn scopes() -> impl Strategy<Value = ScopeSet> {
        proptest::collection::vec("[a-z]{1,64}", 0..6).prop_map(|names| {
            ScopeSet::new(names.iter().map(|name| Scope::parse(name).unwrap()).collect()).unwrap()
        })
    }

    prop_compose! {
        fn records()(
            tenant in "[a-z0-9]{1,30}",
            name in "\\PC{0,40}",
            plan in "[a-z]{0,10}",
            scopes in scopes(),
            networks in proptest::collection::vec("10\\.[1-9][0-9]\\.[0-9]\\.0/24|2001:db8:[1-9a-f]{1,4}::/48|::1", 0..5),
            expires_at in proptest::option::of(0..UnixMillis::MAX.0),
        ) -> KeyRecord {
            KeyRecord {
                key_id: KeyId::generate().into(),
                tenant: TenantSnapshot {
                    id: TenantId::parse(&tenant).unwrap(),
                    name: name.as_str().into(),
                    plan: plan.as_str().into(),
                    status: TenantStatus::Active,
                }
                .into(),
                scopes: scopes.into(),
                allowed_networks: AllowedNetworks::parse(&networks).unwrap(),
                expires_at: expires_at.map(UnixMillis).into(),
                revoked_at: OptionalMillis::NONE,
                last_used_at: OptionalMillis::NONE,
                is_disabled: false,
            }
        }
    }

    prop_compose! {
        fn decisions()(
            verdict in proptest::sample::select(vec![
                Verdict::Valid, Verdict::Unknown, Verdict::Malformed, Verdict::InsufficientScope,
            ]),
            key in proptest::option::of(records()),
            missing_scopes in scopes(),
            source in proptest::sample::select(vec![Source::None, Source::Fresh, Source::Stale]),
            age in 0..u64::MAX / 4,
            revision in 0..i64::MAX,
            unwatched in 0..10_000_000_000_u64,
            watched in 0..100_000_000_000_u64,
        ) -> Decision {
            Decision {
                verdict,
                key,
                missing_scopes,
                provenance: Provenance {
                    source,
                    age: Duration::from_nanos(age),
                    revision: Revision(revision),
                    reuse: ClientReuse::watchable(Duration::from_nanos(unwatched), Duration::from_nanos(watched)),
                },
            }
        }
    }

    proptest! {
        #[test]
        fn decision_frame_equals_prost_encoding(decision in decisions()) {
            let frame = encode_decision_frame(&decision);
            let message = decision_message(decision).encode_to_vec();
            prop_assert_eq!(&frame[..5], &[&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes()].concat());
            prop_assert_eq!(&frame[FRAME_HEADER_LEN..], &message);
        }

        #[test]
        fn batch_frame_equals_prost_encoding(decisions in proptest::collection::vec(decisions(), 0..5)) {
            use v1::batch_validate_keys_result::Result as Outcome;
            let frame = encode_batch_frame(&decisions);
            let result = |decision| v1::BatchValidateKeysResult {
                result: Some(Outcome::Response(decision_message(decision))),
            };
            let message =
                v1::BatchValidateKeysResponse { results: decisions.into_iter().map(result).collect() };
            prop_assert_eq!(&frame[FRAME_HEADER_LEN..], &message.encode_to_vec());
        }
    }
}
