//! Maintenance jobs once the schema is ready: preloading the cache, flushing last-used times, sweeping.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};

use super::{preload::preload_cache, readiness::Readiness};
use crate::{
    domain::{
        clock::SharedClock,
        last_used::LastUsedTracker,
        outage::OutageGrace,
        session::{SessionSweeper, SlidingExpiryTracker},
        store::{Call, Lane, StoreError},
    },
    service_types::{AllCaches, KeyRecordCache, ServiceStore},
};

/// Timeout of one maintenance statement.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often last-used times are flushed, and sessions are swept.
const FLUSH_INTERVAL: Duration = Duration::from_secs(60);
/// How often sliding expiries and pending audit entries are flushed. Well below the minimum time to live of a sliding
/// session.
const SLIDING_EXPIRY_FLUSH_INTERVAL: Duration = Duration::from_secs(5);
/// How often cache entries are removed that are too old for any use.
const CACHE_SWEEP_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// Data that waits to be written.
#[derive(Clone, Debug)]
pub(crate) struct PendingWrites {
    pub(crate) last_used: Arc<LastUsedTracker>,
    pub(crate) sliding_expiries: Arc<SlidingExpiryTracker>,
    pub(crate) outage_grace: Arc<OutageGrace<ServiceStore>>,
}

impl PendingWrites {
    async fn flush(&self, database: &ServiceStore, clock: &SharedClock) -> Result<(), StoreError> {
        let last_used = self.last_used.flush(database, maintenance_call).await;
        let audit = self.outage_grace.write_audit(maintenance_call).await;
        self.sliding_expiries
            .flush(database, || clock.now(), maintenance_call)
            .await
            .and(last_used)
            .and(audit)
    }
}

/// The maintenance jobs and their tasks.
#[derive(Debug)]
pub(crate) struct MaintenanceJobs {
    pub(crate) key_cache: KeyRecordCache,
    store: ServiceStore,
    session_sweeper: Arc<SessionSweeper>,
    pending_writes: PendingWrites,
    clock: SharedClock,
    tasks: [JoinHandle<()>; 6],
    preload_task: JoinHandle<()>,
}

impl MaintenanceJobs {
    /// Starts the jobs; they wait until the service is ready. The cache has a capacity of `capacity` keys.
    pub(crate) fn spawn(
        store: ServiceStore,
        caches: AllCaches,
        capacity: u64,
        pending: PendingWrites,
        clock: SharedClock,
        readiness: watch::Receiver<Readiness>,
    ) -> Self {
        let key_cache = caches.0.clone();
        let preload_task = tokio::spawn(preload_cache(
            store.clone(),
            key_cache.clone(),
            capacity,
            Arc::clone(&clock),
            readiness,
        ));
        let (last_used, sliding_expiries) =
            (Arc::clone(&pending.last_used), Arc::clone(&pending.sliding_expiries));
        let session_sweeper = Arc::new(SessionSweeper::default());
        let tasks = [
            tokio::spawn(run_last_used_flush(last_used, store.clone())),
            tokio::spawn(run_sliding_expiry_flush(sliding_expiries, Arc::clone(&clock), store.clone())),
            tokio::spawn(run_session_sweep(Arc::clone(&session_sweeper), store.clone())),
            tokio::spawn(run_pepper_check(store.clone())),
            tokio::spawn(run_audit_flush(Arc::clone(&pending.outage_grace))),
            tokio::spawn(run_cache_sweep(caches)),
        ];
        Self { key_cache, store, session_sweeper, pending_writes: pending, clock, tasks, preload_task }
    }

    /// Waits until the recently used keys are preloaded.
    pub(crate) async fn wait_until_preloaded(&mut self) {
        // The task ends by itself, or with the service.
        let _ = (&mut self.preload_task).await;
    }

    /// Flushes the last-used times and sliding expiries recorded so far.
    pub(crate) async fn flush_pending_writes(&self) -> Result<(), StoreError> {
        self.pending_writes.flush(&self.store, &self.clock).await
    }

    /// Deletes sessions that expired some time ago, or whose keys did.
    pub(crate) async fn sweep_sessions(&self) -> Result<u64, StoreError> {
        self.session_sweeper.sweep(&self.store, maintenance_call).await
    }
}

impl Drop for MaintenanceJobs {
    fn drop(&mut self) {
        self.preload_task.abort();
        for task in &self.tasks {
            task.abort();
        }
    }
}

// A failure is logged where it happens; what was not done is done the next time.

/// Flushes last-used times every [`FLUSH_INTERVAL`].
async fn run_last_used_flush(last_used: Arc<LastUsedTracker>, store: ServiceStore) {
    loop {
        tokio::time::sleep(FLUSH_INTERVAL).await;
        let _ = last_used.flush(&store, maintenance_call).await;
    }
}

/// Writes pending audit entries of operator actions during an outage.
async fn run_audit_flush(outage_grace: Arc<OutageGrace<ServiceStore>>) {
    loop {
        tokio::time::sleep(SLIDING_EXPIRY_FLUSH_INTERVAL).await;
        let _ = outage_grace.write_audit(maintenance_call).await;
    }
}

/// Flushes the sliding expiries of sessions.
async fn run_sliding_expiry_flush(
    sliding_expiries: Arc<SlidingExpiryTracker>,
    clock: SharedClock,
    store: ServiceStore,
) {
    loop {
        tokio::time::sleep(SLIDING_EXPIRY_FLUSH_INTERVAL).await;
        let _ = sliding_expiries.flush(&store, || clock.now(), maintenance_call).await;
    }
}

/// Sweeps expired sessions.
async fn run_session_sweep(sweeper: Arc<SessionSweeper>, store: ServiceStore) {
    loop {
        tokio::time::sleep(FLUSH_INTERVAL).await;
        let _ = sweeper.sweep(&store, maintenance_call).await;
    }
}

/// Checks for missing peppers: a replica that gets no lookups of new keys would not notice otherwise.
async fn run_pepper_check(store: ServiceStore) {
    loop {
        tokio::time::sleep(FLUSH_INTERVAL).await;
        let _ = store.check_peppers(maintenance_call()).await;
    }
}

/// Sweeps cache entries that are too old for any use.
async fn run_cache_sweep((keys, sessions): AllCaches) {
    loop {
        tokio::time::sleep(CACHE_SWEEP_INTERVAL).await;
        keys.sweep();
        sessions.sweep();
    }
}

pub(super) fn maintenance_call() -> Call {
    Call::within(Lane::Maintenance, STATEMENT_TIMEOUT)
}
