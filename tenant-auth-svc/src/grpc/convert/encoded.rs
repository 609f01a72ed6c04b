//! Decisions straight into bytes, without a message in between: what a hit in memory is answered with.
//!
//! The bytes are those that prost would write for [`decision_message`](super::validation::decision_message); a test
//! compares them. What is saved is a copy of every text of the record, for each answer.

use bytes::{BufMut, Bytes, BytesMut};
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, int32, key_len, message},
};

use super::{
    time::timestamp,
    validation::{provenance_message, verdict_number},
};
use crate::domain::{scope::ScopeSet, verdict::Decision};

/// What precedes each message on the wire: whether it is compressed, and its length.
pub(in crate::grpc) const FRAME_HEAD: usize = 5;

// The fields of ValidateKeyResponse.
const VERDICT: u32 = 1;
const TENANT_ID: u32 = 2;
const TENANT_NAME: u32 = 3;
const PLAN: u32 = 4;
const KEY_ID: u32 = 5;
const SCOPES: u32 = 6;
const EXPIRES_AT: u32 = 7;
const PROVENANCE: u32 = 8;
const MISSING_SCOPES: u32 = 9;
/// `results` of BatchValidateKeysResponse, and `response` of each.
const RESULTS: u32 = 1;
const RESPONSE: u32 = 1;

/// A decision as a whole frame.
pub(in crate::grpc) fn framed_decision(decision: &Decision) -> Bytes {
    frame(decision_len(decision), |frame| put_decision(decision, frame))
}

/// The decisions of a batch as a whole frame.
pub(in crate::grpc) fn framed_decisions(decisions: &[Decision]) -> Bytes {
    let lengths = || decisions.iter().map(decision_len);
    let total = lengths().map(|len| nested_len(RESULTS, nested_len(RESPONSE, len))).sum();
    frame(total, |frame| {
        for (decision, len) in decisions.iter().zip(lengths()) {
            put_head(RESULTS, nested_len(RESPONSE, len), frame);
            put_head(RESPONSE, len, frame);
            put_decision(decision, frame);
        }
    })
}

fn frame(len: usize, put: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut frame = BytesMut::with_capacity(FRAME_HEAD + len);
    frame.put_u8(0);
    // Answers are bounded far below four gigabytes.
    frame.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
    put(&mut frame);
    frame.freeze()
}

fn decision_len(decision: &Decision) -> usize {
    let verdict = i32::from(verdict_number(decision.verdict));
    let provenance = provenance_message(decision.provenance).encoded_len();
    let mut len = int32::encoded_len(VERDICT, &verdict)
        + nested_len(PROVENANCE, provenance)
        + scopes_len(MISSING_SCOPES, &decision.missing_scopes);
    if let Some(key) = &decision.key {
        len += text_len(TENANT_ID, key.tenant_id.as_str())
            + text_len(TENANT_NAME, &key.tenant_name)
            + text_len(PLAN, &key.plan)
            + text_len(KEY_ID, key.key_id.as_str())
            + scopes_len(SCOPES, &key.scopes);
        if let Some(end) = key.expires_at {
            len += nested_len(EXPIRES_AT, timestamp(end).encoded_len());
        }
    }
    len
}

fn put_decision(decision: &Decision, buf: &mut BytesMut) {
    int32::encode(VERDICT, &verdict_number(decision.verdict).into(), buf);
    if let Some(key) = &decision.key {
        put_text(TENANT_ID, key.tenant_id.as_str(), buf);
        put_text(TENANT_NAME, &key.tenant_name, buf);
        put_text(PLAN, &key.plan, buf);
        put_text(KEY_ID, key.key_id.as_str(), buf);
        put_scopes(SCOPES, &key.scopes, buf);
        if let Some(end) = key.expires_at {
            message::encode(EXPIRES_AT, &timestamp(end), buf);
        }
    }
    message::encode(PROVENANCE, &provenance_message(decision.provenance), buf);
    put_scopes(MISSING_SCOPES, &decision.missing_scopes, buf);
}

fn nested_len(field: u32, len: usize) -> usize {
    key_len(field) + encoded_len_varint(len as u64) + len
}

/// An empty text is left out, as always in proto3.
fn text_len(field: u32, text: &str) -> usize {
    if text.is_empty() { 0 } else { nested_len(field, text.len()) }
}

fn scopes_len(field: u32, scopes: &ScopeSet) -> usize {
    scopes.iter().map(|scope| nested_len(field, scope.len())).sum()
}

fn put_head(field: u32, len: usize, buf: &mut BytesMut) {
    encode_key(field, WireType::LengthDelimited, buf);
    encode_varint(len as u64, buf);
}

fn put_text(field: u32, text: &str, buf: &mut BytesMut) {
    if !text.is_empty() {
        put_head(field, text.len(), buf);
        buf.put_slice(text.as_bytes());
    }
}

fn put_scopes(field: u32, scopes: &ScopeSet, buf: &mut BytesMut) {
    for scope in scopes.iter() {
        put_head(field, scope.len(), buf);
        buf.put_slice(scope.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use proptest::prelude::*;
    use tenant_auth_proto::v1;

    use super::*;
    use crate::{
        domain::{
            clock::UnixMillis,
            id::{KeyId, TenantId},
            key::KeyRecord,
            scope::Scope,
            tenant::TenantStatus,
            verdict::{Provenance, Revision, Source, Verdict},
        },
        grpc::convert::decision_message,
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
            end in proptest::option::of(0..UnixMillis::MAX.0),
        ) -> KeyRecord {
            KeyRecord {
                key_id: KeyId::generate(),
                tenant_id: TenantId::parse(&tenant).unwrap(),
                tenant_name: name.as_str().into(),
                plan: plan.as_str().into(),
                tenant_status: TenantStatus::Active,
                scopes,
                expires_at: end.map(UnixMillis),
                revoked_at: None,
                last_used_at: None,
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
            cacheable in 0..10_000_000_000_u64,
        ) -> Decision {
            Decision {
                verdict,
                key: key.map(Arc::new),
                missing_scopes,
                provenance: Provenance {
                    source,
                    age: Duration::from_nanos(age),
                    revision: Revision(revision),
                    cacheable_for: Duration::from_nanos(cacheable),
                },
            }
        }
    }

    proptest! {
        #[test]
        fn the_bytes_are_those_of_the_message(decision in decisions()) {
            let frame = framed_decision(&decision);
            let message = decision_message(decision).encode_to_vec();
            prop_assert_eq!(&frame[..5], &[&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes()].concat());
            prop_assert_eq!(&frame[FRAME_HEAD..], &message);
        }

        #[test]
        fn and_so_are_those_of_a_batch(decisions in proptest::collection::vec(decisions(), 0..5)) {
            use v1::batch_validate_keys_result::Result as Outcome;
            let frame = framed_decisions(&decisions);
            let result = |decision| v1::BatchValidateKeysResult {
                result: Some(Outcome::Response(decision_message(decision))),
            };
            let message =
                v1::BatchValidateKeysResponse { results: decisions.into_iter().map(result).collect() };
            prop_assert_eq!(&frame[FRAME_HEAD..], &message.encode_to_vec());
        }
    }
}
