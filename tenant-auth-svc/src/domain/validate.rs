//! The use case on the hot path: validating keys.

use std::sync::Arc;

use super::{
    client_reuse::ClientReuse,
    clock::{SharedClock, UnixMillis},
    deny::ActiveDenyList,
    key::{BorrowedKey, KeyFormat, KeyHash, KeyRecord, PresentedKey},
    network::ClientAddress,
    record_source::{CachedRecord, RecordSource},
    scope::ScopeSet,
    store::{FailureKind, StoreError},
    unknown_lookup_limiter::LoadContext,
    verdict::{Decision, Verdict},
};

/// A request to validate a key.
#[derive(Debug)]
pub struct KeyQuery {
    /// The key as presented.
    pub key: PresentedKey,
    /// Scopes that the key must have.
    pub required_scopes: ScopeSet,
    /// The address that the request comes from; `None` if it is unknown.
    pub client_address: Option<ClientAddress>,
}

impl KeyQuery {
    /// Creates a query without required scopes from an unknown address.
    #[must_use]
    pub fn new(key: PresentedKey) -> Self {
        Self { key, required_scopes: ScopeSet::EMPTY, client_address: None }
    }
}

/// A source of key records.
pub trait KeySource: RecordSource<Id = KeyHash, Record = KeyRecord> {}

impl<S: RecordSource<Id = KeyHash, Record = KeyRecord>> KeySource for S {}

/// Validates keys.
#[derive(Debug)]
pub struct Validator<S> {
    source: S,
    format: KeyFormat,
    deny_list: Arc<ActiveDenyList>,
    clock: SharedClock,
}

impl<S: KeySource> Validator<S> {
    /// Creates a validator of the keys in `source`.
    pub fn new(source: S, format: KeyFormat, clock: SharedClock) -> Self {
        Self { source, format, deny_list: Arc::default(), clock }
    }

    /// Sets the deny list. It takes precedence over all records.
    #[must_use]
    pub fn with_deny_list(self, deny_list: Arc<ActiveDenyList>) -> Self {
        Self { deny_list, ..self }
    }

    /// Returns the deny list.
    pub(super) fn deny_list(&self) -> &ActiveDenyList {
        &self.deny_list
    }

    /// Validates one key.
    ///
    /// # Errors
    /// When no decision is possible: the cache has no usable record, and the database returns none before the
    /// deadline, or is not queried because the caller has reached the limit of unknown lookups.
    pub async fn decide(
        &self,
        query: &KeyQuery,
        context: impl Into<LoadContext> + Send,
    ) -> Result<Decision, StoreError> {
        let Ok(parsed) = self.format.parse(&query.key) else {
            return Ok(Decision::MALFORMED);
        };
        let (hash, not_found) = (parsed.hash(), parsed.verdict_if_not_found());
        if self.deny_list.is_hash_denied(&hash) {
            return Ok(DENIED_BY_HASH);
        }
        let cached = match self.source.get(&hash) {
            Some(cached) => cached,
            None => first_outcome(self.source.load(&[hash], &context.into()).await)?,
        };
        Ok(self.evaluate(cached, (&query.required_scopes, query.client_address), not_found))
    }

    /// Validates one key from the cache; `None` when the cache has no usable record. It never waits.
    #[must_use]
    pub fn decide_from_cache<'a>(
        &self,
        key: impl Into<BorrowedKey<'a>>,
        required: &ScopeSet,
        address: Option<ClientAddress>,
    ) -> Option<Decision> {
        let Ok(parsed) = self.format.parse(key) else {
            return Some(Decision::MALFORMED);
        };
        let (hash, not_found) = (parsed.hash(), parsed.verdict_if_not_found());
        if self.deny_list.is_hash_denied(&hash) {
            return Some(DENIED_BY_HASH);
        }
        let cached = self.source.get(&hash)?;
        Some(self.evaluate(cached, (required, address), not_found))
    }

    /// Validates several keys. Keys that are not cached are loaded together.
    ///
    /// Returns one outcome per query, in order. An outcome is an error under the same conditions as for a
    /// single key.
    pub async fn decide_all(
        &self,
        queries: &[KeyQuery],
        context: impl Into<LoadContext> + Send,
    ) -> Vec<Result<Decision, StoreError>> {
        let mut unknown = Vec::new();
        let cached_decisions: Vec<CachedDecision> = queries
            .iter()
            .map(|query| match self.format.parse(&query.key) {
                Err(_) => CachedDecision::Decided(Decision::MALFORMED),
                Ok(parsed) => {
                    let (hash, not_found) = (parsed.hash(), parsed.verdict_if_not_found());
                    if self.deny_list.is_hash_denied(&hash) {
                        return CachedDecision::Decided(DENIED_BY_HASH);
                    }
                    match self.source.get(&hash) {
                        Some(cached) => CachedDecision::Cached(cached, not_found),
                        None => {
                            unknown.push(hash);
                            CachedDecision::Missing(not_found)
                        }
                    }
                }
            })
            .collect();

        let mut loaded =
            if unknown.is_empty() { Vec::new() } else { self.source.load(&unknown, &context.into()).await }
                .into_iter();
        queries
            .iter()
            .zip(cached_decisions)
            .map(|(query, cached_decision)| {
                let (cached, not_found) = match cached_decision {
                    CachedDecision::Decided(decision) => return Ok(decision),
                    CachedDecision::Cached(cached, not_found) => (cached, not_found),
                    CachedDecision::Missing(not_found) => {
                        (loaded.next().unwrap_or_else(missing_outcome)?, not_found)
                    }
                };
                Ok(self.evaluate(cached, (&query.required_scopes, query.client_address), not_found))
            })
            .collect()
    }

    /// Evaluates a key for a request with these scopes from this address; `not_found` is the verdict if there is no record.
    fn evaluate(
        &self,
        cached: CachedRecord<KeyRecord>,
        (required, address): (&ScopeSet, Option<ClientAddress>),
        not_found: Verdict,
    ) -> Decision {
        let CachedRecord { record, mut provenance } = cached;
        let Some(key) = record else {
            if not_found == Verdict::Malformed {
                // Callers do not cache this verdict, so an import has nothing to invalidate there.
                provenance.reuse = ClientReuse::NONE;
            }
            return Decision {
                verdict: not_found,
                key: None,
                missing_scopes: ScopeSet::default(),
                provenance,
            };
        };
        // Keys without an expiry need no clock read, which is not free.
        let now = if key.expires_at.get().is_some() { self.clock.now() } else { UnixMillis(0) };
        let verdict = Verdict::evaluate(&key, required, address, now);
        let denial = self.deny_list.verdict(&key.key_id, &key.tenant.id);
        let verdict = denial.map_or(verdict, |denial| verdict.with_denial(denial));
        let missing_scopes = match verdict {
            Verdict::InsufficientScope => key.scopes.missing(required),
            Verdict::Valid
            | Verdict::Unknown
            | Verdict::Malformed
            | Verdict::Expired
            | Verdict::Revoked
            | Verdict::Disabled
            | Verdict::TenantSuspended
            | Verdict::AddressRequired
            | Verdict::AddressNotAllowed => ScopeSet::default(),
        };
        provenance = provenance.limit_reuse_until(key.expires_at.get(), now);
        if denial.is_some() {
            provenance.reuse = ClientReuse::NONE;
        }
        Decision { verdict, key: Some(key), missing_scopes, provenance }
    }
}

enum CachedDecision {
    Decided(Decision),
    /// With the verdict if there is no record.
    Cached(CachedRecord<KeyRecord>, Verdict),
    /// With the verdict if there is no record.
    Missing(Verdict),
}

/// The decision for a key whose hash is on the deny list.
const DENIED_BY_HASH: Decision = Decision::without_record(Verdict::Revoked);

fn first_outcome<T>(outcomes: Vec<Result<T, StoreError>>) -> Result<T, StoreError> {
    outcomes.into_iter().next().unwrap_or_else(missing_outcome)
}

/// A source that returns too few outcomes must not lead to the verdict "unknown".
fn missing_outcome<T>() -> Result<T, StoreError> {
    Err(StoreError::new(FailureKind::Internal, "the key source returned fewer outcomes than ids"))
}
