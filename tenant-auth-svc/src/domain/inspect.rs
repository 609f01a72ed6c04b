//! What this replica holds of one key, for an operator who wants to know which replica has not heard of a change.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    cache_policy::UpstreamHealth,
    change::ChangeEvent,
    clock::{SharedClock, UnixMillis},
    deny::ActiveDenyList,
    id::KeyId,
    key::{KeyHash, KeyRecord},
    scope::ScopeSet,
    tenant::TenantStatus,
    verdict::{Revision, Source, Verdict},
};

/// A record in memory, as it is.
#[derive(Clone, Debug)]
pub struct InspectedRecord {
    /// The record.
    pub record: Arc<KeyRecord>,
    /// The hash of the key; `None` for a record that was read ahead and that nobody has asked for.
    pub hash: Option<KeyHash>,
    /// As what it would be served; [`Source::Database`] when the database would be read first.
    pub source: Source,
    /// Time since the database was asked, counted from before the read.
    pub age: Duration,
    /// The change-log position that it reflects.
    pub revision: Revision,
}

/// What memory has to say about a key.
#[derive(Clone, Debug)]
pub struct CachedKeyState {
    /// The record, if there is one.
    pub cached: Option<InspectedRecord>,
    /// The last change of the key that it was told of and remembers.
    pub last_change: Option<ChangeEvent>,
    /// How many records were looked at.
    pub records_scanned: u64,
}

/// A memory that can be looked into: nothing is loaded, and nothing counts as used.
pub trait InspectCache: Send + Sync + 'static {
    /// What there is of a key. It looks at every record, and so must not run on a thread that answers requests.
    fn inspect(&self, key: &KeyId) -> CachedKeyState;
}

/// How a replica hears of changes, and how its look-ups go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaState {
    /// Up to where it has read the change log.
    pub revision: Revision,
    /// Time since it last read the log to its end; `None` when it never did, or does not follow it.
    pub feed_age: Option<Duration>,
    /// Whether it asks the database, and hears of changes.
    pub upstream_health: UpstreamHealth,
}

/// Tells how this replica is.
pub type ReplicaProbe = Box<dyn Fn() -> ReplicaState + Send + Sync>;

/// What this replica holds of a key.
#[derive(Clone, Debug)]
pub struct KeyInspection {
    /// The record, and what the key would be answered by it.
    pub cached: Option<(InspectedRecord, Verdict)>,
    /// The last change of the key that this replica was told of and remembers.
    pub last_change: Option<ChangeEvent>,
    /// Whether the deny list names the key.
    pub is_on_deny_list: bool,
    /// How this replica is.
    pub replica: ReplicaState,
    /// Its clock.
    pub now: UnixMillis,
    /// How many records were looked at.
    pub records_scanned: u64,
}

/// Looks at what this replica holds.
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
    /// Looks into `memory`; `denied` has the last word, as in every answer.
    pub fn new(
        memory: impl InspectCache,
        denied: Arc<ActiveDenyList>,
        replica: ReplicaProbe,
        clock: SharedClock,
    ) -> Self {
        Self { cache: Box::new(memory), deny_list: denied, replica, clock }
    }

    /// What there is of a key in memory, and what it comes to. It takes as long as memory is large, and so must not run on a
    /// thread that answers requests.
    #[must_use]
    pub fn inspect(&self, key: &KeyId) -> KeyInspection {
        let CachedKeyState { cached: held, last_change: heard, records_scanned: records } =
            self.cache.inspect(key);
        let now = self.clock.now();
        let by_hash =
            held.as_ref().and_then(|held| held.hash).is_some_and(|hash| self.deny_list.is_hash_denied(&hash));
        let held = held.map(|held| {
            let verdict = Verdict::evaluate(&held.record, &ScopeSet::EMPTY, now);
            let denied = self.deny_list.verdict(key, &held.record.tenant_id);
            let verdict = denied.map_or(verdict, |denied| verdict.with_denial(denied));
            (held, if by_hash { Verdict::Revoked } else { verdict })
        });
        let on_deny_list = by_hash || self.deny_list.is_key_denied(key);
        KeyInspection {
            cached: held,
            last_change: heard,
            is_on_deny_list: on_deny_list,
            replica: (self.replica)(),
            now,
            records_scanned: records,
        }
    }
}

impl InspectedRecord {
    /// Whether the record says that its tenant is suspended.
    #[must_use]
    pub fn is_tenant_suspended(&self) -> bool {
        self.record.tenant_status == TenantStatus::Suspended
    }
}
