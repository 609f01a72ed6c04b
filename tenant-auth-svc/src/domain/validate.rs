//! The use case on the hot path: deciding about keys.

use std::sync::Arc;

use super::{
    clock::{SharedClock, UnixMillis},
    deny::Denied,
    guesses::OnBehalf,
    key::{BorrowedKey, KeyFormat, KeyHash, KeyRecord, PresentedKey},
    knowledge::{Knowledge, RecordSource},
    reuse::Reuse,
    scope::ScopeSet,
    store::{FailureKind, StoreError},
    verdict::{Decision, Provenance, Verdict},
};

/// A question: this key, for that.
#[derive(Debug)]
pub struct Question {
    /// The key as presented.
    pub key: PresentedKey,
    /// What it must be allowed to do.
    pub required_scopes: ScopeSet,
}

/// Where knowledge about keys comes from.
pub trait KeySource: RecordSource<Id = KeyHash, Record = KeyRecord> {}

impl<S: RecordSource<Id = KeyHash, Record = KeyRecord>> KeySource for S {}

/// Decides about keys.
#[derive(Debug)]
pub struct Validator<S> {
    source: S,
    format: KeyFormat,
    denied: Arc<Denied>,
    clock: SharedClock,
}

impl<S: KeySource> Validator<S> {
    /// Decides by what `source` knows.
    pub fn new(source: S, format: KeyFormat, clock: SharedClock) -> Self {
        Self { source, format, denied: Arc::default(), clock }
    }

    /// Denies what is on this list, whatever is known.
    #[must_use]
    pub fn denying(self, denied: Arc<Denied>) -> Self {
        Self { denied, ..self }
    }

    /// What is denied.
    pub(super) fn denied(&self) -> &Denied {
        &self.denied
    }

    /// Decides about one key.
    ///
    /// # Errors
    /// When it cannot be decided: memory has no usable answer and the database gives none before the deadline, or is not asked
    /// because the asker has made too many guesses.
    pub async fn decide(
        &self,
        question: &Question,
        ask: impl Into<OnBehalf> + Send,
    ) -> Result<Decision, StoreError> {
        let Ok(shape) = self.format.inspect(&question.key) else {
            return Ok(MALFORMED);
        };
        let hash = shape.hash();
        if self.denied.hash(&hash) {
            return Ok(DENIED);
        }
        let knowledge = match self.source.recall(&hash) {
            Some(knowledge) => knowledge,
            None => single(self.source.fetch(&[hash], &ask.into()).await)?,
        };
        Ok(self.judge(knowledge, &question.required_scopes))
    }

    /// Decides about one key by what is in memory; `None` when that is not enough. Waits for nothing.
    #[must_use]
    pub fn recall<'a>(&self, key: impl Into<BorrowedKey<'a>>, required: &ScopeSet) -> Option<Decision> {
        let Ok(shape) = self.format.inspect(key) else {
            return Some(MALFORMED);
        };
        let hash = shape.hash();
        if self.denied.hash(&hash) {
            return Some(DENIED);
        }
        let knowledge = self.source.recall(&hash)?;
        Some(self.judge(knowledge, required))
    }

    /// Decides about several keys; what memory does not know is asked for together.
    ///
    /// One outcome per question, in order. An outcome is an error under the same conditions as for a single key.
    pub async fn decide_all(
        &self,
        questions: &[Question],
        ask: impl Into<OnBehalf> + Send,
    ) -> Vec<Result<Decision, StoreError>> {
        let mut unknown = Vec::new();
        let recalled: Vec<Recalled> = questions
            .iter()
            .map(|question| match self.format.inspect(&question.key) {
                Err(_) => Recalled::Decided(MALFORMED),
                Ok(shape) => {
                    let hash = shape.hash();
                    if self.denied.hash(&hash) {
                        return Recalled::Decided(DENIED);
                    }
                    self.source.recall(&hash).map_or_else(
                        || {
                            unknown.push(hash);
                            Recalled::Nothing
                        },
                        Recalled::Known,
                    )
                }
            })
            .collect();

        let mut fetched =
            if unknown.is_empty() { Vec::new() } else { self.source.fetch(&unknown, &ask.into()).await }
                .into_iter();
        questions
            .iter()
            .zip(recalled)
            .map(|(question, recalled)| {
                let knowledge = match recalled {
                    Recalled::Decided(decision) => return Ok(decision),
                    Recalled::Known(knowledge) => knowledge,
                    Recalled::Nothing => fetched.next().unwrap_or_else(no_outcome)?,
                };
                Ok(self.judge(knowledge, &question.required_scopes))
            })
            .collect()
    }

    fn judge(&self, knowledge: Knowledge<KeyRecord>, required: &ScopeSet) -> Decision {
        let Knowledge { record, provenance } = knowledge;
        let Some(key) = record else {
            return Decision {
                verdict: Verdict::Unknown,
                key: None,
                missing_scopes: ScopeSet::default(),
                provenance,
            };
        };
        // The time of day decides nothing about a key without an end, and is not for nothing.
        let now = if key.expires_at.is_some() { self.clock.now() } else { UnixMillis(0) };
        let verdict = Verdict::on(&key, required, now);
        let denied = self.denied.verdict(&key.key_id, &key.tenant_id);
        let verdict = denied.map_or(verdict, |denied| verdict.or_denied(denied));
        let missing_scopes = match verdict {
            Verdict::InsufficientScope => key.scopes.missing(required),
            Verdict::Valid
            | Verdict::Unknown
            | Verdict::Malformed
            | Verdict::Expired
            | Verdict::Revoked
            | Verdict::TenantSuspended => ScopeSet::default(),
        };
        let mut provenance = provenance.capped_by(key.expires_at, now);
        if denied.is_some() {
            provenance.reuse = Reuse::NONE;
        }
        Decision { verdict, key: Some(key), missing_scopes, provenance }
    }
}

enum Recalled {
    Decided(Decision),
    Known(Knowledge<KeyRecord>),
    Nothing,
}

/// By a list that knows it by its hash alone.
const DENIED: Decision = unexamined(Verdict::Revoked);

const MALFORMED: Decision = unexamined(Verdict::Malformed);

/// What needs no record.
const fn unexamined(verdict: Verdict) -> Decision {
    Decision { verdict, key: None, missing_scopes: ScopeSet::EMPTY, provenance: Provenance::BY_LOOKS }
}

fn single<T>(outcomes: Vec<Result<T, StoreError>>) -> Result<T, StoreError> {
    outcomes.into_iter().next().unwrap_or_else(no_outcome)
}

/// A source that breaks its promise of one outcome per hash must not turn into "unknown".
fn no_outcome<T>() -> Result<T, StoreError> {
    Err(StoreError::new(FailureKind::Broken, "the key source gave fewer outcomes than asked for"))
}
