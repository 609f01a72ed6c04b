//! Decisions straight into bytes, without a message in between: what a hit in memory is answered with.
//!
//! The bytes are those that prost would write for [`decision_message`](super::validation::decision_message); a test
//! compares them. What is saved is a copy of every text of the record, for each answer.

use std::{cell::RefCell, time::Duration};

use bytes::Bytes;

use super::{
    time::{duration, timestamp},
    validation::{source_number, verdict_number},
};
use crate::domain::{
    scope::ScopeSet,
    verdict::{Decision, Provenance},
};

/// What precedes each message on the wire: whether it is compressed, and its length.
pub(crate) const FRAME_HEAD: usize = 5;

// The fields of ValidateKeyResponse.
const VERDICT: u8 = 1;
const TENANT_ID: u8 = 2;
const TENANT_NAME: u8 = 3;
const PLAN: u8 = 4;
const KEY_ID: u8 = 5;
const SCOPES: u8 = 6;
const EXPIRES_AT: u8 = 7;
const PROVENANCE: u8 = 8;
const MISSING_SCOPES: u8 = 9;
// Those of Provenance.
const SOURCE: u8 = 1;
const AGE: u8 = 2;
const REVISION: u8 = 3;
const CACHEABLE_FOR: u8 = 4;
const CACHEABLE_WHILE_WATCHED: u8 = 5;
// Those of Timestamp and of Duration.
const SECONDS: u8 = 1;
const NANOS: u8 = 2;
// `results` of BatchValidateKeysResponse, and `response` of each.
const RESULTS: u8 = 1;
const RESPONSE: u8 = 1;

thread_local! {
    /// Where messages are written whose length has to come before them.
    static DRAFTS: RefCell<(Vec<u8>, Vec<u8>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// No draft keeps more memory than this for the next one.
const LARGEST_DRAFT: usize = 1 << 18;

/// A decision as a whole frame.
pub(crate) fn framed_decision(decision: &Decision) -> Bytes {
    framed(|frame, _| put_decision(decision, frame))
}

/// The decisions of a batch as a whole frame.
pub(crate) fn framed_decisions(decisions: &[Decision]) -> Bytes {
    framed(|frame, draft| {
        for decision in decisions {
            draft.clear();
            put_decision(decision, draft);
            let len = 1 + varint_len(draft.len()) + draft.len();
            put_head(RESULTS, len, frame);
            put_bytes(RESPONSE, draft, frame);
        }
    })
}

fn framed(put: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) -> Bytes {
    DRAFTS.with_borrow_mut(|(frame, draft)| {
        frame.clear();
        frame.extend_from_slice(&[0; FRAME_HEAD]);
        put(frame, draft);
        // Answers are bounded far below four gigabytes.
        let len = u32::try_from(frame.len() - FRAME_HEAD).unwrap_or(u32::MAX).to_be_bytes();
        if let Some(head) = frame.get_mut(1..FRAME_HEAD) {
            head.copy_from_slice(&len);
        }
        let framed = Bytes::copy_from_slice(frame);
        frame.clear();
        frame.shrink_to(LARGEST_DRAFT);
        framed
    })
}

fn put_decision(decision: &Decision, out: &mut Vec<u8>) {
    put_number(VERDICT, i32::from(verdict_number(decision.verdict)).into(), out);
    if let Some(key) = &decision.key {
        put_text(TENANT_ID, key.tenant_id.as_str(), out);
        put_text(TENANT_NAME, &key.tenant_name, out);
        put_text(PLAN, &key.plan, out);
        put_text(KEY_ID, key.key_id.as_str(), out);
        put_scopes(SCOPES, &key.scopes, out);
        if let Some(end) = key.expires_at.map(timestamp) {
            put_small(EXPIRES_AT, out, |out| put_time(end.seconds, end.nanos, out));
        }
    }
    put_small(PROVENANCE, out, |out| put_provenance(decision.provenance, out));
    put_scopes(MISSING_SCOPES, &decision.missing_scopes, out);
}

fn put_provenance(provenance: Provenance, out: &mut Vec<u8>) {
    put_number(SOURCE, i32::from(source_number(provenance.source)).into(), out);
    put_small(AGE, out, |out| put_duration(provenance.age, out));
    put_number(REVISION, provenance.revision.0, out);
    put_small(CACHEABLE_FOR, out, |out| put_duration(provenance.reuse.unwatched, out));
    put_small(CACHEABLE_WHILE_WATCHED, out, |out| put_duration(provenance.reuse.watched, out));
}

fn put_duration(span: Duration, out: &mut Vec<u8>) {
    let span = duration(span);
    put_time(span.seconds, span.nanos, out);
}

fn put_time(seconds: i64, nanos: i32, out: &mut Vec<u8>) {
    put_number(SECONDS, seconds, out);
    put_number(NANOS, nanos.into(), out);
}

/// A message of less than 128 bytes, whose length is one byte: it is filled in afterwards.
fn put_small(field: u8, out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    put_head(field, 0, out);
    let begin = out.len();
    put(out);
    let len = u8::try_from(out.len() - begin).unwrap_or(u8::MAX);
    if let Some(place) = out.get_mut(begin - 1) {
        *place = len;
    }
}

/// An empty text is left out, as always in proto3.
fn put_text(field: u8, text: &str, out: &mut Vec<u8>) {
    if !text.is_empty() {
        put_bytes(field, text.as_bytes(), out);
    }
}

fn put_scopes(field: u8, scopes: &ScopeSet, out: &mut Vec<u8>) {
    for scope in scopes.iter() {
        put_bytes(field, scope.as_bytes(), out);
    }
}

fn put_bytes(field: u8, bytes: &[u8], out: &mut Vec<u8>) {
    put_head(field, bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn put_head(field: u8, len: usize, out: &mut Vec<u8>) {
    const LENGTH_DELIMITED: u8 = 2;
    out.push(field << 3 | LENGTH_DELIMITED);
    put_varint(len as u64, out);
}

/// A zero is left out, too.
fn put_number(field: u8, number: i64, out: &mut Vec<u8>) {
    const VARINT: u8 = 0;
    if number != 0 {
        out.push(field << 3 | VARINT);
        put_varint(number.cast_unsigned(), out);
    }
}

fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    // Seven bits a byte, the lowest ones first; all but the last byte are marked.
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn varint_len(number: usize) -> usize {
    (number.max(1).ilog2() / 7 + 1) as usize
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use proptest::prelude::*;
    use prost::Message as _;
    use tenant_auth_proto::v1;

    use super::*;
    use crate::{
        domain::{
            clock::UnixMillis,
            id::{KeyId, TenantId},
            key::KeyRecord,
            reuse::Reuse,
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
            unwatched in 0..10_000_000_000_u64,
            watched in 0..100_000_000_000_u64,
        ) -> Decision {
            Decision {
                verdict,
                key: key.map(Arc::new),
                missing_scopes,
                provenance: Provenance {
                    source,
                    age: Duration::from_nanos(age),
                    revision: Revision(revision),
                    reuse: Reuse::announced(Duration::from_nanos(unwatched), Duration::from_nanos(watched)),
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
