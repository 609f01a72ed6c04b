//! The use case on the hot path: deciding about keys.

use std::sync::Arc;

use super::{
    client_reuse::ClientReuse,
    clock::{SharedClock, UnixMillis},
    deny::ActiveDenyList,
    guess_limiter::LoadContext,
    key::{BorrowedKey, KeyFormat, KeyHash, KeyRecord, PresentedKey},
    record_source::{CachedRecord, RecordSource},
    scope::ScopeSet,
    store::{FailureKind, StoreError},
    verdict::{Decision, Provenance, Verdict},
};

/// A question: this key, for that.
#[derive(Debug)]
pub struct KeyQuery {
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
    deny_list: Arc<ActiveDenyList>,
    clock: SharedClock,
}

impl<S: KeySource> Validator<S> {
    /// Decides by what `source` knows.
    pub fn new(source: S, format: KeyFormat, clock: SharedClock) -> Self {
        Self { source, format, deny_list: Arc::default(), clock }
    }

    /// Denies what is on this list, whatever is known.
    #[must_use]
    pub fn with_deny_list(self, denied: Arc<ActiveDenyList>) -> Self {
        Self { deny_list: denied, ..self }
    }

    /// What is denied.
    pub(super) fn deny_list(&self) -> &ActiveDenyList {
        &self.deny_list
    }

    /// Decides about one key.
    ///
    /// # Errors
    /// When it cannot be decided: memory has no usable answer and the database gives none before the deadline, or is not asked
    /// because the asker has made too many guesses.
    pub async fn decide(
        &self,
        question: &KeyQuery,
        ask: impl Into<LoadContext> + Send,
    ) -> Result<Decision, StoreError> {
        let Ok(shape) = self.format.parse(&question.key) else {
            return Ok(MALFORMED);
        };
        let hash = shape.hash();
        if self.deny_list.is_hash_denied(&hash) {
            return Ok(DENIED_BY_HASH);
        }
        let knowledge = match self.source.get(&hash) {
            Some(knowledge) => knowledge,
            None => first_outcome(self.source.load(&[hash], &ask.into()).await)?,
        };
        Ok(self.evaluate(knowledge, &question.required_scopes))
    }

    /// Decides about one key by what is in memory; `None` when that is not enough. Waits for nothing.
    #[must_use]
    pub fn decide_from_cache<'a>(
        &self,
        key: impl Into<BorrowedKey<'a>>,
        required: &ScopeSet,
    ) -> Option<Decision> {
        let Ok(shape) = self.format.parse(key) else {
            return Some(MALFORMED);
        };
        let hash = shape.hash();
        if self.deny_list.is_hash_denied(&hash) {
            return Some(DENIED_BY_HASH);
        }
        let knowledge = self.source.get(&hash)?;
        Some(self.evaluate(knowledge, required))
    }

    /// Decides about several keys; what memory does not know is asked for together.
    ///
    /// One outcome per question, in order. An outcome is an error under the same conditions as for a single key.
    pub async fn decide_all(
        &self,
        questions: &[KeyQuery],
        ask: impl Into<LoadContext> + Send,
    ) -> Vec<Result<Decision, StoreError>> {
        let mut unknown = Vec::new();
        let recalled: Vec<CachedDecision> = questions
            .iter()
            .map(|question| match self.format.parse(&question.key) {
                Err(_) => CachedDecision::Decided(MALFORMED),
                Ok(shape) => {
                    let hash = shape.hash();
                    if self.deny_list.is_hash_denied(&hash) {
                        return CachedDecision::Decided(DENIED_BY_HASH);
                    }
                    self.source.get(&hash).map_or_else(
                        || {
                            unknown.push(hash);
                            CachedDecision::Missing
                        },
                        CachedDecision::Cached,
                    )
                }
            })
            .collect();

        let mut fetched =
            if unknown.is_empty() { Vec::new() } else { self.source.load(&unknown, &ask.into()).await }
                .into_iter();
        questions
            .iter()
            .zip(recalled)
            .map(|(question, recalled)| {
                let knowledge = match recalled {
                    CachedDecision::Decided(decision) => return Ok(decision),
                    CachedDecision::Cached(knowledge) => knowledge,
                    CachedDecision::Missing => fetched.next().unwrap_or_else(missing_outcome)?,
                };
                Ok(self.evaluate(knowledge, &question.required_scopes))
            })
            .collect()
    }

    fn evaluate(&self, knowledge: CachedRecord<KeyRecord>, required: &ScopeSet) -> Decision {
        let CachedRecord { record, provenance } = knowledge;
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
        let verdict = Verdict::evaluate(&key, required, now);
        let denied = self.deny_list.verdict(&key.key_id, &key.tenant_id);
        let verdict = denied.map_or(verdict, |denied| verdict.with_denial(denied));
        let missing_scopes = match verdict {
            Verdict::InsufficientScope => key.scopes.missing(required),
            Verdict::Valid
            | Verdict::Unknown
            | Verdict::Malformed
            | Verdict::Expired
            | Verdict::Revoked
            | Verdict::TenantSuspended => ScopeSet::default(),
        };
        let mut provenance = provenance.limit_reuse_until(key.expires_at, now);
        if denied.is_some() {
            provenance.reuse = ClientReuse::NONE;
        }
        Decision { verdict, key: Some(key), missing_scopes, provenance }
    }
}

enum CachedDecision {
    Decided(Decision),
    Cached(CachedRecord<KeyRecord>),
    Missing,
}

/// By a list that knows it by its hash alone.
const DENIED_BY_HASH: Decision = without_record(Verdict::Revoked);

const MALFORMED: Decision = without_record(Verdict::Malformed);

/// What needs no record.
const fn without_record(verdict: Verdict) -> Decision {
    Decision { verdict, key: None, missing_scopes: ScopeSet::EMPTY, provenance: Provenance::NO_LOOKUP }
}

fn first_outcome<T>(outcomes: Vec<Result<T, StoreError>>) -> Result<T, StoreError> {
    outcomes.into_iter().next().unwrap_or_else(missing_outcome)
}

/// A source that breaks its promise of one outcome per hash must not turn into "unknown".
fn missing_outcome<T>() -> Result<T, StoreError> {
    Err(StoreError::new(FailureKind::Internal, "the key source gave fewer outcomes than asked for"))
}
