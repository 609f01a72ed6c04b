//! Responses from the cache, from the bytes of the request to the bytes of the response.

mod consume_view;
mod request_view;

use std::{ops::Deref, sync::Arc, time::Instant};

use bytes::Bytes;
use http::HeaderMap;

use self::{consume_view::ConsumeView, request_view::RequestView};
use crate::{
    domain::{
        limit::{
            LimitEnforcer,
            consume::{KeyConsumer, Validation},
        },
        validate::{KeySource, Validator},
        verdict::{Decision, Source, Verdict},
    },
    forward::check::{CHECK_PATH, CheckResponder},
    grpc::convert::{
        FRAME_HEADER_LEN, MAX_BATCH_KEYS, encode_batch_frame, encode_consume_frame, encode_decision_frame,
    },
};

const VALIDATE_KEY_PATH: &str = "/tenantauth.v1.ValidationService/ValidateKey";
const CONSUME_PATH: &str = "/tenantauth.v1.LimitService/Consume";
const BATCH_VALIDATE_KEYS_PATH: &str = "/tenantauth.v1.ValidationService/BatchValidateKeys";

/// A response and its verdicts.
#[derive(Debug)]
pub struct CacheResponse {
    /// The response as a gRPC frame.
    pub frame: Bytes,
    /// The verdict and the source of each key.
    pub verdicts: HitVerdicts,
}

impl CacheResponse {
    /// Returns whether any key was denied.
    #[must_use]
    pub fn has_denial(&self) -> bool {
        self.verdicts.iter().any(|(verdict, _)| *verdict != Verdict::Valid)
    }
}

/// The verdict and the source of each key. A single key, by far the most frequent case, needs no allocation.
#[derive(Debug)]
pub enum HitVerdicts {
    /// Of `Check`, for a request without a key.
    None,
    /// Of `ValidateKey` and `Check`.
    Single([(Verdict, Source); 1]),
    /// Of `BatchValidateKeys`, in order.
    Batch(Vec<(Verdict, Source)>),
}

impl Deref for HitVerdicts {
    type Target = [(Verdict, Source)];

    fn deref(&self) -> &Self::Target {
        match self {
            Self::None => &[],
            Self::Single(one) => one,
            Self::Batch(many) => many,
        }
    }
}

fn verdict_and_source(decision: &Decision) -> (Verdict, Source) {
    (decision.verdict, decision.provenance.source)
}

/// Decides requests from the cache.
#[derive(Debug)]
pub struct CacheResponder<K, L> {
    validator: Arc<Validator<K>>,
    consumer: Arc<KeyConsumer<K, L>>,
    check: CheckResponder<K>,
}

impl<K, L> Clone for CacheResponder<K, L> {
    fn clone(&self) -> Self {
        Self {
            validator: Arc::clone(&self.validator),
            consumer: Arc::clone(&self.consumer),
            check: self.check.clone(),
        }
    }
}

impl<K: KeySource, L: LimitEnforcer> CacheResponder<K, L> {
    /// Creates a responder for what `validator`, `consumer` and `check` can decide without waiting.
    #[must_use]
    pub fn new(
        validator: Arc<Validator<K>>,
        consumer: Arc<KeyConsumer<K, L>>,
        check: CheckResponder<K>,
    ) -> Self {
        Self { validator, consumer, check }
    }

    /// Returns whether the RPC at a path can be answered from the cache.
    #[must_use]
    pub fn handles(path: &str) -> bool {
        path == VALIDATE_KEY_PATH
            || path == CONSUME_PATH
            || path == CHECK_PATH
            || path == BATCH_VALIDATE_KEYS_PATH
    }

    /// Returns whether a gRPC error in the response of an RPC is replaced: proxies cannot handle one.
    #[must_use]
    pub fn replaces_errors(path: &str) -> bool {
        path == CHECK_PATH
    }

    /// Returns the response in place of a gRPC error; `None` if the headers of the response contain none.
    #[must_use]
    pub fn respond_to_error(&self, response: &HeaderMap, started: Instant) -> Option<Bytes> {
        self.check.respond_undecided(response, started)
    }

    /// Returns the response frame to a request frame. `None` if a decision has to wait, or if the request is
    /// invalid in any way: the middleware stack then handles the request and reports the error.
    #[must_use]
    pub fn respond(&self, path: &str, frame: &[u8], started: Instant) -> Option<CacheResponse> {
        let message = unframe_single_message(frame)?;
        if path == CHECK_PATH {
            let checked = self.check.respond(message, started)?;
            let verdicts =
                checked.verdict.map_or(HitVerdicts::None, |verdict| HitVerdicts::Single([verdict]));
            return Some(CacheResponse { frame: checked.frame, verdicts });
        }
        if path == CONSUME_PATH {
            return self.consume(message);
        }
        if path == VALIDATE_KEY_PATH {
            let decision = self.decide(&RequestView::parse(message)?)?;
            Some(CacheResponse {
                frame: encode_decision_frame(&decision),
                verdicts: HitVerdicts::Single([verdict_and_source(&decision)]),
            })
        } else {
            let requests = request_view::parse_batch(message).take(MAX_BATCH_KEYS + 1);
            let decisions = requests.map(|request| self.decide(&request?)).collect::<Option<Vec<_>>>()?;
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

    fn consume(&self, message: &[u8]) -> Option<CacheResponse> {
        let ConsumeView { query, costs } = ConsumeView::parse(message)?;
        let query = (query.key, &query.required_scopes, query.client_address);
        let decision = self.consumer.consume_now(query, &costs)?;
        let Validation::Key(validation) = &decision.validation else { return None };
        Some(CacheResponse {
            frame: encode_consume_frame(&decision)?,
            verdicts: HitVerdicts::Single([verdict_and_source(validation)]),
        })
    }

    fn decide(&self, request: &RequestView<'_>) -> Option<Decision> {
        self.validator.decide_from_cache(request.key, &request.required_scopes, request.client_address)
    }
}

/// Returns the message of a frame, if the frame holds exactly one uncompressed message.
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
