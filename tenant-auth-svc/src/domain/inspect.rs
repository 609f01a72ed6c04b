//! The cached state of one key, for an operator who looks for a replica that has missed a change.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    cache_policy::UpstreamHealth,
    change::ChangeEvent,
    clock::{SharedClock, UnixMillis},
    deny::ActiveDenyList,
    id::KeyId,
    key::{KeyHash, KeyRecord},
    tenant::TenantStatus,
    verdict::{Revision, Source, Verdict},
};

/// A cached record, unchanged.
#[derive(Clone, Debug)]
pub struct InspectedRecord {
    /// The record.
    pub record: KeyRecord,
    /// The hash of the key; `None` for a preloaded record that no request has loaded.
    pub hash: Option<KeyHash>,
    /// The source it would be served with; [`Source::Database`] if the database would be read first.
    pub source: Source,
    /// Time since the read from the database started.
    pub age: Duration,
    /// The change-log position that the record reflects.
    pub revision: Revision,
}

/// A change that was applied to a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppliedChange {
    /// The change.
    pub event: ChangeEvent,
    /// When it was applied, by this replica's clock; `None` if that is unknown.
    pub applied_at: Option<UnixMillis>,
}

/// The cached state of a key.
#[derive(Clone, Debug)]
pub struct CachedKeyState {
    /// The cached record, if there is one.
    pub cached: Option<InspectedRecord>,
    /// The last applied change of the key that is still recorded.
    pub last_change: Option<AppliedChange>,
    /// Number of cached records.
    pub records: u64,
}

/// A cache that can be inspected without side effects: nothing is loaded, and no use is recorded.
pub trait InspectCache: Send + Sync + 'static {
    /// Returns the cached state of a key.
    fn inspect(&self, key: &KeyId) -> CachedKeyState;

    /// Returns the id of the cached key with a hash; `None` if it is not cached, or was only preloaded.
    fn key_id(&self, hash: &KeyHash) -> Option<KeyId>;
}

/// The state of a replica's change feed and of its lookups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaState {
    /// The change-log position up to which the replica has read.
    pub revision: Revision,
    /// Time since the log was last read to its end; `None` if it never was, or the feed is disabled.
    pub feed_age: Option<Duration>,
    /// The health of the database and of the change feed.
    pub upstream_health: UpstreamHealth,
    /// Maximum age of an answer that may lack a change after `revision`.
    pub max_answer_age: Duration,
}

/// Returns the state of this replica.
pub type ReplicaProbe = Arc<dyn Fn() -> ReplicaState + Send + Sync>;

/// The state of a key on this replica.
#[derive(Clone, Debug)]
pub struct KeyInspection {
    /// The key.
    pub key_id: KeyId,
    /// The cached record, and the verdict that follows from it.
    pub cached: Option<(InspectedRecord, Verdict)>,
    /// The last applied change of the key that is still recorded.
    pub last_change: Option<AppliedChange>,
    /// Whether the deny list contains the key.
    pub is_on_deny_list: bool,
    /// The state of this replica.
    pub replica: ReplicaState,
    /// This replica's clock.
    pub now: UnixMillis,
    /// Number of cached records.
    pub records: u64,
}

/// Inspects the cached state of keys.
pub struct KeyInspector {
    cache: Box<dyn InspectCache>,
    deny_list: Arc<ActiveDenyList>,
    replica: ReplicaProbe,
    clock: SharedClock,
}

impl fmt::Debug for KeyInspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyInspector").finish_non_exhaustive()
    }
}

impl KeyInspector {
    /// Creates an inspector of `cache`. The deny list takes precedence, as in every answer.
    pub fn new(
        cache: impl InspectCache,
        deny_list: Arc<ActiveDenyList>,
        replica: ReplicaProbe,
        clock: SharedClock,
    ) -> Self {
        Self { cache: Box::new(cache), deny_list, replica, clock }
    }

    /// Returns the id of the cached key with a hash.
    #[must_use]
    pub fn key_id(&self, hash: &KeyHash) -> Option<KeyId> {
        self.cache.key_id(hash)
    }

    /// Returns the cached state of a key, and the verdict that follows from it.
    #[must_use]
    pub fn inspect(&self, key: &KeyId) -> KeyInspection {
        let CachedKeyState { cached, last_change, records } = self.cache.inspect(key);
        let now = self.clock.now();
        let by_hash = cached
            .as_ref()
            .and_then(|cached| cached.hash)
            .is_some_and(|hash| self.deny_list.is_hash_denied(&hash));
        let cached = cached.map(|cached| {
            let verdict = Verdict::of_key(&cached.record, now);
            let denial = self.deny_list.verdict(&cached.record.key_id, &cached.record.tenant.id);
            let verdict = denial.map_or(verdict, |denial| verdict.with_denial(denial));
            (cached, if by_hash { Verdict::Revoked } else { verdict })
        });
        let is_on_deny_list = by_hash || self.deny_list.is_key_denied(key);
        KeyInspection {
            key_id: key.clone(),
            cached,
            last_change,
            is_on_deny_list,
            replica: (self.replica)(),
            now,
            records,
        }
    }
}

impl InspectedRecord {
    /// Whether the record's tenant is suspended.
    #[must_use]
    pub fn is_tenant_suspended(&self) -> bool {
        self.record.tenant.status == TenantStatus::Suspended
    }
}
