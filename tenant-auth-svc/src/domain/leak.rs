//! Leaked keys: keys that were found in a public place.

use std::{
    fmt,
    future::Future,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use thiserror::Error;

use super::{
    admin::{AdminError, KeyCache, local_change, revocation},
    audit::Actor,
    change::{ChangeKind, PerSubject},
    clock::SharedClock,
    key::{ApiKey, KeyFormat, KeyHash, PresentedKey},
    store::{Call, Change, Committed, Lane, MAX_IDS_PER_LOOKUP, StoreError},
    text::{LeakLocation, LeakSource, LeakType},
};

/// What happens to a leaked key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeakPolicy {
    /// It is disabled at once.
    Disable,
    /// It stays valid; the report is recorded and counted.
    Notify,
    /// It expires after this time, unless it expires sooner.
    ExpireIn(Duration),
}

/// Why a policy was rejected. The message completes the sentence "the value …".
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("must be from 1 minute to 30 days")]
pub struct InvalidLeakDelay;

impl LeakPolicy {
    /// Creates the policy that lets a leaked key expire after a delay of 1 minute to 30 days.
    ///
    /// # Errors
    /// When the delay is shorter or longer.
    pub fn expire_in(delay: Duration) -> Result<Self, InvalidLeakDelay> {
        let allowed = Duration::from_secs(60)..=Duration::from_secs(30 * 86_400);
        if allowed.contains(&delay) { Ok(Self::ExpireIn(delay)) } else { Err(InvalidLeakDelay) }
    }

    /// Parses the text that [`Display`](fmt::Display) writes, which the database stores.
    #[must_use]
    pub fn from_stored(text: &str) -> Option<Self> {
        match text {
            "disable" => Some(Self::Disable),
            "notify" => Some(Self::Notify),
            _ => Some(Self::ExpireIn(Duration::from_millis(text.strip_prefix("expire:")?.parse().ok()?))),
        }
    }

    /// Returns the name used in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Notify => "notify",
            Self::ExpireIn(_) => "expire",
        }
    }
}

impl fmt::Display for LeakPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExpireIn(delay) => write!(f, "expire:{}", delay.as_millis()),
            policy => f.write_str(policy.as_str()),
        }
    }
}

/// A report of a leaked key.
#[derive(Clone, Debug)]
pub struct LeakReport {
    /// SHA-256 of the key.
    pub hash: KeyHash,
    /// Who found it.
    pub source: LeakSource,
    /// Where it was found.
    pub location: LeakLocation,
    /// The finder's name for the kind of key.
    pub kind: LeakType,
}

/// The effect of a report about a known key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeakOutcome {
    /// The policy that the first report of the source applied.
    pub policy: LeakPolicy,
    /// Whether the source had reported the key before.
    pub already_reported: bool,
    /// The key as it is now.
    pub key: ApiKey,
}

/// Whether a key that was found is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeakKnowledge {
    /// There is no such key.
    Unknown,
    /// There is one, and the source has not reported it.
    Unreported,
    /// The source has reported it.
    Reported,
}

/// Stores leaks. It fails with [`StoreError`] when the database returns no complete result.
pub trait LeakStore: Send + Sync + 'static {
    /// Records that a key was found in a public place, and applies the policy of its tenant, or `default_policy`; `None`
    /// when there is no such key. Only the first report of a source has an effect. `report_id` identifies this report, so
    /// that a second run after a lost response recognises it.
    fn report_leak(
        &self,
        call: Call,
        report: &LeakReport,
        report_id: &str,
        default_policy: LeakPolicy,
        change: &Change,
    ) -> impl Future<Output = Result<Committed<Option<LeakOutcome>>, StoreError>> + Send;

    /// Returns for each of up to [`MAX_IDS_PER_LOOKUP`] keys whether it is known, and whether a source has reported it. A
    /// key with an unreadable record is known. Keys that may be stored under a pepper that this replica lacks are an error.
    fn find_leaks(
        &self,
        call: Call,
        hashes: &[KeyHash],
        source: &LeakSource,
    ) -> impl Future<Output = Result<Vec<LeakKnowledge>, StoreError>> + Send;
}

/// The effects of reports that are counted, in order.
const COUNTED: [&str; 5] = ["disable", "notify", "expire", "already_reported", "unknown_key"];

/// Reports of leaked keys.
#[derive(Debug)]
pub struct Leaks<S, M> {
    store: S,
    cache: M,
    format: KeyFormat,
    /// For tenants without a policy of their own.
    default_policy: LeakPolicy,
    clock: SharedClock,
    counts: [AtomicU64; COUNTED.len()],
}

impl<S: LeakStore, M: KeyCache> Leaks<S, M> {
    /// Applies `default_policy` to the leaked keys of tenants that have no policy.
    pub fn new(
        store: S,
        cache: M,
        format: KeyFormat,
        default_policy: LeakPolicy,
        clock: SharedClock,
    ) -> Self {
        Self { store, cache, format, default_policy, clock, counts: Default::default() }
    }

    /// Applies the policy of its tenant to a leaked key; `None` if there is no such key. Only the first report of a source
    /// has an effect.
    ///
    /// # Errors
    /// [`AdminError::Store`], after which it may be applied: a repeated report says so.
    pub async fn report(
        &self,
        report: &LeakReport,
        actor: Actor,
        deadline: Instant,
    ) -> Result<Committed<Option<LeakOutcome>>, AdminError> {
        let change = Change { actor, at: self.clock.now() };
        let call = Call::until(Lane::Admin, deadline);
        // Not the id of the request, which the caller may use again.
        let report_id = uuid::Uuid::now_v7().simple().to_string();
        let outcome = self.store.report_leak(call, report, &report_id, self.default_policy, &change).await;
        // After a failure the key is unknown, so the change feed reports its change. A report without an effect changes
        // nothing: applied as a change, it would release a revocation that this replica retains.
        if let Ok(Committed { outcome: Some(leak), .. }) = &outcome {
            let may_expire = !leak.already_reported && matches!(leak.policy, LeakPolicy::ExpireIn(_));
            let kind = revocation(&leak.key).or(may_expire.then_some(ChangeKind::Changed));
            if let Some(kind) = kind {
                self.cache.apply(&PerSubject::for_key(&leak.key.id, local_change(kind, &outcome)));
            }
        }
        let committed = outcome?;
        self.count(committed.outcome.as_ref());
        Ok(committed)
    }

    /// Returns for each hash, in order, whether it is known, and whether a source has reported it.
    ///
    /// # Errors
    /// [`AdminError::Store`].
    pub async fn find(
        &self,
        hashes: &[KeyHash],
        source: &LeakSource,
        deadline: Instant,
    ) -> Result<Vec<LeakKnowledge>, AdminError> {
        let mut found = Vec::with_capacity(hashes.len());
        for page in hashes.chunks(MAX_IDS_PER_LOOKUP) {
            let call = Call::until(Lane::Admin, deadline);
            found.extend(self.store.find_leaks(call, page, source).await?);
        }
        Ok(found)
    }

    /// Returns the hash of a text that may be a key of this service; `None` if it cannot be one.
    #[must_use]
    pub fn hash(&self, text: &PresentedKey) -> Option<KeyHash> {
        self.format.parse(text).ok().map(|parsed| parsed.hash())
    }

    /// Returns the number of reports by their effect: a policy, `already_reported` or `unknown_key`.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        COUNTED.into_iter().zip(self.counts.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    fn count(&self, outcome: Option<&LeakOutcome>) {
        let effect = match outcome {
            None => "unknown_key",
            Some(LeakOutcome { already_reported: true, .. }) => "already_reported",
            Some(LeakOutcome { policy, .. }) => policy.as_str(),
        };
        let index = COUNTED.iter().position(|counted| *counted == effect);
        if let Some(count) = index.and_then(|index| self.counts.get(index)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_policy_round_trips() {
        for policy in [
            LeakPolicy::Disable,
            LeakPolicy::Notify,
            LeakPolicy::expire_in(Duration::from_secs(86_400)).unwrap(),
        ] {
            assert_eq!(LeakPolicy::from_stored(&policy.to_string()), Some(policy));
        }
        for text in ["", "revoke", "expire", "expire:", "expire:1h", "disable "] {
            assert_eq!(LeakPolicy::from_stored(text), None, "{text}");
        }
    }

    #[test]
    fn delay_of_a_policy_is_bounded() {
        for seconds in [0, 59, 30 * 86_400 + 1] {
            assert_eq!(LeakPolicy::expire_in(Duration::from_secs(seconds)), Err(InvalidLeakDelay));
        }
    }
}
