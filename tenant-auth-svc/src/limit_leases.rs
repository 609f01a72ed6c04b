//! The limits in use on this replica, and the exchange of their leases with the database.
//!
//! Decisions are made in `decide` from what [`LimitCounter`] holds; they wait for nothing while it has enough. `exchanger` is the
//! only task that talks to the database about leases: one transaction at a time, whatever the number of tenants, and none while
//! nothing is used.

mod applied;
mod counts;
mod decide;
mod durable;
mod exchanger;

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use quick_cache::sync::Cache;
use tokio::sync::{Notify, watch};

use self::durable::DurableOperation;
pub use self::{
    applied::AppliedLimits,
    counts::{LimitCounts, LimitResult},
    exchanger::LeaseExchanger,
};
use crate::{
    cache::HealthProbe,
    domain::{
        change::{ChangeEvent, Invalidate, LimitChange, PerSubject},
        clock::SharedClock,
        condition::Condition,
        id::{PackedKeyId, TenantId},
        limit::{CounterKey, HolderId, LeaseStore, LimitStore, counter::LimitCounter},
    },
};

/// The database, as limits need it.
pub trait LimitDatabase: LimitStore + LeaseStore + Clone {}

impl<S: LimitStore + LeaseStore + Clone> LimitDatabase for S {}

/// The limits in use. Cheap to clone; clones share all state.
pub struct LimitLeases<S>(Arc<Shared<S>>);

struct Shared<S> {
    store: S,
    clock: SharedClock,
    health: HealthProbe,
    holder: HolderId,
    /// The limits of each key.
    applied: Cache<PackedKeyId, Arc<AppliedLimits>>,
    /// Rises when limits change: what was read before may be old.
    epoch: AtomicU64,
    /// The counters, which keys of a tenant share.
    counters: Mutex<HashMap<CounterKey, Weak<LimitCounter>>>,
    /// Counters that the exchange has to look at.
    due: Mutex<Vec<Arc<LimitCounter>>>,
    /// Operations that wait for a commit.
    operations: Mutex<VecDeque<DurableOperation>>,
    wake: Notify,
    progress: watch::Sender<Progress>,
    /// The latest exchange of any replica that is known: a database that does not know it was rolled back.
    known_log: AtomicI64,
    /// Whether the last exchange failed.
    is_down: AtomicBool,
    /// The outcome of the last exchange; `None` before the first one.
    condition: Mutex<Option<Condition>>,
    counts: LimitCounts,
}

/// How far the exchange has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    /// The number of exchanges.
    exchanges: u64,
}

impl<S> Clone for LimitLeases<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> fmt::Debug for LimitLeases<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitLeases").finish_non_exhaustive()
    }
}

impl<S: LimitDatabase> LimitLeases<S> {
    /// Creates the state. `max_keys`: of how many keys the limits are kept in memory.
    pub fn new(store: S, clock: SharedClock, health: HealthProbe, max_keys: usize) -> Self {
        Self(Arc::new(Shared {
            store,
            clock,
            health,
            holder: HolderId::generate(),
            applied: Cache::new(max_keys),
            epoch: AtomicU64::new(0),
            counters: Mutex::default(),
            due: Mutex::default(),
            operations: Mutex::default(),
            wake: Notify::new(),
            progress: watch::Sender::default(),
            known_log: AtomicI64::new(0),
            is_down: AtomicBool::new(false),
            condition: Mutex::default(),
            counts: LimitCounts::default(),
        }))
    }

    /// Counts of decisions and exchanges.
    #[must_use]
    pub fn counts(&self) -> &LimitCounts {
        &self.0.counts
    }

    /// Returns the outcome of the last exchange, and since when exchanges succeed or fail; `None` before the first one.
    #[must_use]
    pub fn condition(&self) -> Option<Condition> {
        *lock(&self.0.condition)
    }

    /// Returns how many counters are in use: one for each limit of a tenant or a key whose limits are in memory.
    #[must_use]
    pub fn counters_in_use(&self) -> usize {
        let mut counters = lock(&self.0.counters);
        counters.retain(|_, counter| counter.strong_count() > 0);
        counters.len()
    }

    /// Whether the database does not respond to exchanges.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.0.is_down.load(Ordering::Acquire)
    }
}

impl<S> Shared<S> {
    /// Puts a counter on the list of the next exchange.
    fn make_due(&self, counter: &Arc<LimitCounter>) {
        lock(&self.due).push(Arc::clone(counter));
        self.wake.notify_one();
    }

    /// The counters in use, of one tenant or of all.
    fn counters_of(&self, tenant: Option<&TenantId>) -> Vec<Arc<LimitCounter>> {
        let is_meant = |key: &CounterKey| tenant.is_none_or(|tenant| key.tenant_id == *tenant);
        let mut counters = lock(&self.counters);
        counters.retain(|_, counter| counter.strong_count() > 0);
        counters
            .iter()
            .filter(|(key, _)| is_meant(key))
            .filter_map(|(_, counter)| counter.upgrade())
            .collect()
    }

    /// The database may have been restored from a backup: it is shown what this replica has seen.
    fn report_all(&self) {
        self.known_log.store(0, Ordering::Release);
        for counter in self.counters_of(None) {
            let is_due = counter.lock().report_again();
            if is_due {
                self.make_due(&counter);
            }
        }
    }

    /// The limits of a tenant, or of all tenants, have changed.
    fn invalidate(&self, tenant: Option<&TenantId>) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        match tenant {
            None => self.applied.clear(),
            Some(tenant) => self.applied.retain(|_, applied| applied.tenant_id != *tenant),
        }
        self.recall(tenant);
    }

    /// Another replica may lack what this one holds of the limits of a tenant, or of all tenants.
    fn recall(&self, tenant: Option<&TenantId>) {
        for counter in self.counters_of(tenant) {
            let is_due = counter.lock().recall();
            if is_due {
                self.make_due(&counter);
            }
        }
    }
}

impl<S: LimitDatabase> Invalidate for LimitLeases<S> {
    fn apply(&self, changes: &PerSubject<ChangeEvent>) {
        for (tenant, change) in &changes.limits {
            match change {
                LimitChange::Definition => self.0.invalidate(tenant.as_ref()),
                LimitChange::LeaseWanted => self.0.recall(tenant.as_ref()),
            }
        }
    }

    /// The log has a gap: limits may have changed, and the database may be another one.
    fn require_revalidation(&self) {
        self.0.epoch.fetch_add(1, Ordering::AcqRel);
        // First: without the limits that apply, counters that hold nothing would be forgotten before they are reported.
        self.0.report_all();
        self.0.applied.clear();
    }

    fn retain_revocations(&self, _: &PerSubject<ChangeEvent>) {
        // No limit depends on them: a key is validated before anything is taken.
    }
}

/// Locks a list. Each modification leaves it consistent, so a poisoned lock is usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While the change feed is silent, limits that were read longer ago than this are read again.
const FRESH: Duration = Duration::from_secs(5);
