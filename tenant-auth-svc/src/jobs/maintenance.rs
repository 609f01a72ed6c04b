//! What goes on in the background once the schema is in place: reading ahead, and writing down which keys are in use.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};

use crate::{
    domain::{
        clock::SharedClock,
        last_used::LastUsedTracker,
        outage::OutageGrace,
        session::{SessionSweeper, SlidingExpiryTracker},
        store::{Call, Lane, Store as _, StoreError},
    },
    server::{
        AllCaches, KeyRecordCache, ServiceStore,
        readiness::{Readiness, ReadinessState},
    },
};

/// How many keys are read ahead in one statement.
const KEYS_PER_PAGE: usize = 500;
/// How long one statement of upkeep may take.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// The wait before reading ahead goes on after a failure; it doubles with each further one.
const INITIAL_RETRY_DELAY: Duration = Duration::from_secs(1);
/// … up to this.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(60);
/// How often uses of keys are written, and sessions swept.
const FLUSH_INTERVAL: Duration = Duration::from_secs(60);
/// How often the moved ends of sessions are written, and entries of the audit log that wait. Well below the shortest time to live of a sliding one.
const SLIDING_EXPIRY_FLUSH_INTERVAL: Duration = Duration::from_secs(5);
/// How often memory lets go of what is too old for everything.
const CACHE_SWEEP_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// What waits to be written.
#[derive(Clone, Debug)]
pub(crate) struct PendingWrites {
    pub(crate) last_used: Arc<LastUsedTracker>,
    pub(crate) sliding_expiries: Arc<SlidingExpiryTracker>,
    pub(crate) outage_grace: Arc<OutageGrace<ServiceStore>>,
}

impl PendingWrites {
    async fn flush(&self, database: &ServiceStore, clock: &SharedClock) -> Result<(), StoreError> {
        let uses = self.last_used.flush(database, maintenance_call).await;
        let audit = self.outage_grace.write_audit(maintenance_call).await;
        self.sliding_expiries.flush(database, || clock.now(), maintenance_call).await.and(uses).and(audit)
    }
}

/// What goes on in the background.
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
    /// Begins, as soon as the service is ready. Memory has room for `capacity` keys.
    pub(crate) fn spawn(
        database: ServiceStore,
        memories: AllCaches,
        capacity: u64,
        pending: PendingWrites,
        clock: SharedClock,
        readiness: watch::Receiver<Readiness>,
    ) -> Self {
        let memory = memories.0.clone();
        let reading = tokio::spawn(preload_cache(database.clone(), memory.clone(), capacity, readiness));
        let (uses, slides) = (Arc::clone(&pending.last_used), Arc::clone(&pending.sliding_expiries));
        let sweeper = Arc::new(SessionSweeper::default());
        let tasks = [
            tokio::spawn(run_last_used_flush(uses, database.clone())),
            tokio::spawn(run_sliding_expiry_flush(slides, Arc::clone(&clock), database.clone())),
            tokio::spawn(run_session_sweep(Arc::clone(&sweeper), database.clone())),
            tokio::spawn(run_pepper_check(database.clone())),
            tokio::spawn(run_audit_flush(Arc::clone(&pending.outage_grace))),
            tokio::spawn(run_cache_sweep(memories)),
        ];
        Self {
            key_cache: memory,
            store: database,
            session_sweeper: sweeper,
            pending_writes: pending,
            clock,
            tasks,
            preload_task: reading,
        }
    }

    /// Waits until the keys in use were read ahead.
    pub(crate) async fn wait_until_preloaded(&mut self) {
        // It ends by itself, or with the service.
        let _ = (&mut self.preload_task).await;
    }

    /// Writes down the uses noted so far.
    pub(crate) async fn flush_pending_writes(&self) -> Result<(), StoreError> {
        self.pending_writes.flush(&self.store, &self.clock).await
    }

    /// Deletes sessions that have been over for a while, or whose keys have.
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

/// Fills an empty memory with the keys that were used most recently, up to its capacity, so that a replica which has just
/// started can tide over an outage too. Nothing waits for it.
async fn preload_cache(
    database: ServiceStore,
    memory: KeyRecordCache,
    capacity: u64,
    mut readiness: watch::Receiver<Readiness>,
) {
    if readiness.wait_for(|now| matches!(now.state, ReadinessState::Ready)).await.is_err() {
        return;
    }
    let mut left = usize::try_from(capacity).unwrap_or(usize::MAX);
    let (mut after, mut pause) = (None, INITIAL_RETRY_DELAY);
    while left > 0 {
        let limit = left.min(KEYS_PER_PAGE);
        let reading = memory.start_read();
        let page = match database.recently_used_keys(maintenance_call(), after.clone(), limit).await {
            Ok(page) => page,
            Err(error) => {
                let seconds = pause.as_secs();
                tracing::warn!(%error, seconds, "keys in use cannot be read ahead; it is tried again after a pause");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(MAX_RETRY_DELAY);
                continue;
            }
        };
        pause = INITIAL_RETRY_DELAY;
        left = left.saturating_sub(page.keys.len());
        after = page.next;
        memory.insert_preloaded(reading, &page.database, page.revision, page.keys);
        if after.is_none() {
            return;
        }
    }
}

// A failure is logged where it happens; what was not done is done the next time.

/// Writes down which keys are in use, again and again.
async fn run_last_used_flush(uses: Arc<LastUsedTracker>, database: ServiceStore) {
    loop {
        tokio::time::sleep(FLUSH_INTERVAL).await;
        let _ = uses.flush(&database, maintenance_call).await;
    }
}

/// Writes down what operators did while the database was away, again and again.
async fn run_audit_flush(outage: Arc<OutageGrace<ServiceStore>>) {
    loop {
        tokio::time::sleep(SLIDING_EXPIRY_FLUSH_INTERVAL).await;
        let _ = outage.write_audit(maintenance_call).await;
    }
}

/// Writes down how far the ends of sessions have moved, again and again.
async fn run_sliding_expiry_flush(
    slides: Arc<SlidingExpiryTracker>,
    clock: SharedClock,
    database: ServiceStore,
) {
    loop {
        tokio::time::sleep(SLIDING_EXPIRY_FLUSH_INTERVAL).await;
        let _ = slides.flush(&database, || clock.now(), maintenance_call).await;
    }
}

/// Sweeps, again and again.
async fn run_session_sweep(sweeper: Arc<SessionSweeper>, database: ServiceStore) {
    loop {
        tokio::time::sleep(FLUSH_INTERVAL).await;
        let _ = sweeper.sweep(&database, maintenance_call).await;
    }
}

/// Looks for peppers that are missing here, again and again: a replica that is asked about nothing new would not notice.
async fn run_pepper_check(database: ServiceStore) {
    loop {
        tokio::time::sleep(FLUSH_INTERVAL).await;
        let _ = database.check_peppers(maintenance_call()).await;
    }
}

/// Lets go of what memory holds in vain, again and again.
async fn run_cache_sweep((keys, sessions): AllCaches) {
    loop {
        tokio::time::sleep(CACHE_SWEEP_INTERVAL).await;
        keys.sweep();
        sessions.sweep();
    }
}

fn maintenance_call() -> Call {
    Call::within(Lane::Maintenance, STATEMENT_TIMEOUT)
}
