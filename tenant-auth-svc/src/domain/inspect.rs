//! What this replica holds of one key, for an operator who wants to know which replica has not heard of a change.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    change::News,
    clock::{SharedClock, UnixMillis},
    deny::Denied,
    freshness::World,
    id::KeyId,
    key::{KeyHash, KeyRecord},
    scope::ScopeSet,
    tenant::TenantStatus,
    verdict::{Revision, Source, Verdict},
};

/// A record in memory, as it is.
#[derive(Clone, Debug)]
pub struct HeldRecord {
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
pub struct MemoryOfKey {
    /// The record, if there is one.
    pub held: Option<HeldRecord>,
    /// The last change of the key that it was told of and remembers.
    pub heard: Option<News>,
    /// How many records were looked at.
    pub records: u64,
}

/// A memory that can be looked into: nothing is loaded, and nothing counts as used.
pub trait InspectMemory: Send + Sync + 'static {
    /// What there is of a key. It looks at every record, and so must not run on a thread that answers requests.
    fn inspect(&self, key: &KeyId) -> MemoryOfKey;
}

/// How a replica hears of changes, and how its look-ups go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaState {
    /// Up to where it has read the change log.
    pub revision: Revision,
    /// Time since it last read the log to its end; `None` when it never did, or does not follow it.
    pub feed_age: Option<Duration>,
    /// Whether it asks the database, and hears of changes.
    pub world: World,
}

/// Tells how this replica is.
pub type ReplicaProbe = Box<dyn Fn() -> ReplicaState + Send + Sync>;

/// What this replica holds of a key.
#[derive(Clone, Debug)]
pub struct KeyInspection {
    /// The record, and what the key would be answered by it.
    pub held: Option<(HeldRecord, Verdict)>,
    /// The last change of the key that this replica was told of and remembers.
    pub heard: Option<News>,
    /// Whether the deny list names the key.
    pub on_deny_list: bool,
    /// How this replica is.
    pub replica: ReplicaState,
    /// Its clock.
    pub now: UnixMillis,
    /// How many records were looked at.
    pub records: u64,
}

/// Looks at what this replica holds.
pub struct KeyInspector {
    memory: Box<dyn InspectMemory>,
    denied: Arc<Denied>,
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
        memory: impl InspectMemory,
        denied: Arc<Denied>,
        replica: ReplicaProbe,
        clock: SharedClock,
    ) -> Self {
        Self { memory: Box::new(memory), denied, replica, clock }
    }

    /// What there is of a key in memory, and what it comes to. It takes as long as memory is large, and so must not run on a
    /// thread that answers requests.
    #[must_use]
    pub fn inspect(&self, key: &KeyId) -> KeyInspection {
        let MemoryOfKey { held, heard, records } = self.memory.inspect(key);
        let now = self.clock.now();
        let by_hash = held.as_ref().and_then(|held| held.hash).is_some_and(|hash| self.denied.hash(&hash));
        let held = held.map(|held| {
            let verdict = Verdict::on(&held.record, &ScopeSet::EMPTY, now);
            let denied = self.denied.verdict(key, &held.record.tenant_id);
            let verdict = denied.map_or(verdict, |denied| verdict.or_denied(denied));
            (held, if by_hash { Verdict::Revoked } else { verdict })
        });
        let on_deny_list = by_hash || self.denied.key(key);
        KeyInspection { held, heard, on_deny_list, replica: (self.replica)(), now, records }
    }
}

impl HeldRecord {
    /// Whether the record says that its tenant is suspended.
    #[must_use]
    pub fn is_tenant_suspended(&self) -> bool {
        self.record.tenant_status == TenantStatus::Suspended
    }
}
