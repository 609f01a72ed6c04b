//! What can be answered from memory at once, from the request's bytes to the answer's.

mod request_view;

use std::{ops::Deref, sync::Arc};

use bytes::Bytes;

use self::request_view::RequestView;
use crate::{
    domain::{
        validate::{KeySource, Validator},
        verdict::{Decision, Source, Verdict},
    },
    grpc::convert::{FRAME_HEADER_LEN, MAX_BATCH_KEYS, encode_batch_frame, encode_decision_frame},
};

const VALIDATE_KEY_PATH: &str = "/tenantauth.v1.ValidationService/ValidateKey";
const BATCH_VALIDATE_KEYS_PATH: &str = "/tenantauth.v1.ValidationService/BatchValidateKeys";

/// An answer, and what it says.
#[derive(Debug)]
pub struct CacheResponse {
    /// The answer, framed.
    pub frame: Bytes,
    /// What was decided about each key.
    pub verdicts: HitVerdicts,
}

impl CacheResponse {
    /// Whether any key was denied.
    #[must_use]
    pub fn has_denial(&self) -> bool {
        self.verdicts.iter().any(|(verdict, _)| *verdict != Verdict::Valid)
    }
}

/// What was decided about each key. One is nearly always all, and needs no list.
#[derive(Debug)]
pub enum HitVerdicts {
    /// About one.
    Single([(Verdict, Source); 1]),
    /// About those of a batch.
    Batch(Vec<(Verdict, Source)>),
}

impl Deref for HitVerdicts {
    type Target = [(Verdict, Source)];

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Single(one) => one,
            Self::Batch(many) => many,
        }
    }
}

fn verdict_and_source(decision: &Decision) -> (Verdict, Source) {
    (decision.verdict, decision.provenance.source)
}

/// Answers from memory.
#[derive(Debug)]
pub struct CacheResponder<K>(Arc<Validator<K>>);

impl<K> Clone for CacheResponder<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: KeySource> CacheResponder<K> {
    /// What this one can decide without waiting.
    #[must_use]
    pub fn new(validator: Arc<Validator<K>>) -> Self {
        Self(validator)
    }

    /// Whether the RPC at a path may be answered so.
    #[must_use]
    pub fn handles(path: &str) -> bool {
        path == VALIDATE_KEY_PATH || path == BATCH_VALIDATE_KEYS_PATH
    }

    /// The answer to a framed request, framed. `None` for everything that has to wait for something, or is wrong in any
    /// way: it goes the ordinary way, which says what is wrong.
    #[must_use]
    pub fn respond(&self, path: &str, frame: &[u8]) -> Option<CacheResponse> {
        let message = unframe_single_message(frame)?;
        if path == VALIDATE_KEY_PATH {
            let decision = self.decide(&RequestView::parse(message)?)?;
            Some(CacheResponse {
                frame: encode_decision_frame(&decision),
                verdicts: HitVerdicts::Single([verdict_and_source(&decision)]),
            })
        } else {
            let asked = request_view::parse_batch(message).take(MAX_BATCH_KEYS + 1);
            let decisions = asked.map(|asked| self.decide(&asked?)).collect::<Option<Vec<_>>>()?;
            if !(1..=MAX_BATCH_KEYS).contains(&decisions.len()) {
                return None;
            }
            let outcomes = decisions.iter().map(verdict_and_source).collect();
            Some(CacheResponse {
                frame: encode_batch_frame(&decisions),
                verdicts: HitVerdicts::Batch(outcomes),
            })
        }
    }

    fn decide(&self, asked: &RequestView<'_>) -> Option<Decision> {
        self.0.decide_from_cache(asked.key, &asked.required_scopes)
    }
}

/// The message in a frame, if it is exactly one, and not compressed.
fn unframe_single_message(frame: &[u8]) -> Option<&[u8]> {
    let (head, message) = frame.split_first_chunk::<FRAME_HEADER_LEN>()?;
    let [compressed, len @ ..] = *head;
    let len = usize::try_from(u32::from_be_bytes(len)).ok()?;
    (compressed == 0 && len == message.len()).then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_must_hold_exactly_one_message() {
        assert_eq!(unframe_single_message(&[0, 0, 0, 0, 2, 7, 8]), Some(&[7, 8][..]));
        assert_eq!(unframe_single_message(&[0, 0, 0, 0, 0]), Some(&[][..]));
        for other in [&[][..], &[0, 0, 0, 0], &[1, 0, 0, 0, 1, 7], &[0, 0, 0, 0, 1], &[0, 0, 0, 0, 1, 7, 8]] {
            assert_eq!(unframe_single_message(other), None, "{other:?}");
        }
    }
}
