//! What can be answered from memory at once, from the request's bytes to the answer's.

mod asked;

use std::{ops::Deref, sync::Arc};

use bytes::Bytes;

use self::asked::Asked;
use crate::{
    domain::{
        validate::{KeySource, Validator},
        verdict::{Decision, Source, Verdict},
    },
    grpc::convert::{FRAME_HEAD, MAX_BATCH, framed_decision, framed_decisions},
};

const VALIDATE_KEY: &str = "/tenantauth.v1.ValidationService/ValidateKey";
const BATCH: &str = "/tenantauth.v1.ValidationService/BatchValidateKeys";

/// An answer, and what it says.
#[derive(Debug)]
pub struct Hit {
    /// The answer, framed.
    pub frame: Bytes,
    /// What was decided about each key.
    pub decisions: Outcomes,
}

impl Hit {
    /// Whether any key was denied.
    #[must_use]
    pub fn has_denial(&self) -> bool {
        self.decisions.iter().any(|(verdict, _)| *verdict != Verdict::Valid)
    }
}

/// What was decided about each key. One is nearly always all, and needs no list.
#[derive(Debug)]
pub enum Outcomes {
    /// About one.
    One([(Verdict, Source); 1]),
    /// About those of a batch.
    Many(Vec<(Verdict, Source)>),
}

impl Deref for Outcomes {
    type Target = [(Verdict, Source)];

    fn deref(&self) -> &Self::Target {
        match self {
            Self::One(one) => one,
            Self::Many(many) => many,
        }
    }
}

fn outcome(decision: &Decision) -> (Verdict, Source) {
    (decision.verdict, decision.provenance.source)
}

/// Answers from memory.
#[derive(Debug)]
pub struct Hits<K>(Arc<Validator<K>>);

impl<K> Clone for Hits<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: KeySource> Hits<K> {
    /// What this one can decide without waiting.
    #[must_use]
    pub fn new(validator: Arc<Validator<K>>) -> Self {
        Self(validator)
    }

    /// Whether the RPC at a path may be answered so.
    #[must_use]
    pub fn concerns(path: &str) -> bool {
        path == VALIDATE_KEY || path == BATCH
    }

    /// The answer to a framed request, framed. `None` for everything that has to wait for something, or is wrong in any
    /// way: it goes the ordinary way, which says what is wrong.
    #[must_use]
    pub fn answer(&self, path: &str, frame: &[u8]) -> Option<Hit> {
        let message = whole_message(frame)?;
        if path == VALIDATE_KEY {
            let decision = self.recall(&Asked::read(message)?)?;
            Some(Hit { frame: framed_decision(&decision), decisions: Outcomes::One([outcome(&decision)]) })
        } else {
            let asked = asked::batch(message).take(MAX_BATCH + 1);
            let decisions = asked.map(|asked| self.recall(&asked?)).collect::<Option<Vec<_>>>()?;
            if !(1..=MAX_BATCH).contains(&decisions.len()) {
                return None;
            }
            let outcomes = decisions.iter().map(outcome).collect();
            Some(Hit { frame: framed_decisions(&decisions), decisions: Outcomes::Many(outcomes) })
        }
    }

    fn recall(&self, asked: &Asked<'_>) -> Option<Decision> {
        self.0.recall(asked.key, &asked.required_scopes)
    }
}

/// The message in a frame, if it is exactly one, and not compressed.
fn whole_message(frame: &[u8]) -> Option<&[u8]> {
    let (head, message) = frame.split_first_chunk::<FRAME_HEAD>()?;
    let [compressed, len @ ..] = *head;
    let len = usize::try_from(u32::from_be_bytes(len)).ok()?;
    (compressed == 0 && len == message.len()).then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_holds_one_whole_message() {
        assert_eq!(whole_message(&[0, 0, 0, 0, 2, 7, 8]), Some(&[7, 8][..]));
        assert_eq!(whole_message(&[0, 0, 0, 0, 0]), Some(&[][..]));
        for other in [&[][..], &[0, 0, 0, 0], &[1, 0, 0, 0, 1, 7], &[0, 0, 0, 0, 1], &[0, 0, 0, 0, 1, 7, 8]] {
            assert_eq!(whole_message(other), None, "{other:?}");
        }
    }
}
