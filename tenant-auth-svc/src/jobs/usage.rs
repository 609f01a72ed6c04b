//! Usage jobs of the running service: commit recorded usage, delete old requests and events, compare totals with
//! events.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};

use super::{
    readiness::{Readiness, until_ready},
    usage_reconciler::{ReconcileResult, UsageReconciler},
};
use crate::{
    config::UsageConfig,
    domain::{
        clock::SharedClock,
        jitter,
        store::{Call, Lane, StoreError},
        usage::{self, UsageRecorder, UsageRetention},
    },
    service_types::{ServiceStore, ServiceUsageRecorder},
    usage_batcher::{BatcherTask, UsageBatcher},
};

/// How often old requests and events are deleted.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// Timeout of one batch of that.
const SWEEP_BATCH_TIMEOUT: Duration = Duration::from_secs(10);

/// The jobs behind `UsageService`.
#[derive(Debug)]
pub(crate) struct UsageJobs {
    pub(crate) batcher_task: BatcherTask,
    sweeper: Arc<UsageSweeper>,
    sweep_task: Option<JoinHandle<()>>,
    reconciler: UsageReconciler,
    /// `None`: only on request.
    reconcile_interval: Option<Duration>,
    reconcile_task: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct UsageSweeper {
    store: ServiceStore,
    retention: UsageRetention,
}

impl UsageJobs {
    /// Starts to commit; sweeps start with [`spawn_maintenance`](Self::spawn_maintenance).
    pub(crate) fn start(
        store: ServiceStore,
        config: UsageConfig,
        clock: SharedClock,
    ) -> (Arc<ServiceUsageRecorder>, UsageBatcher, Self) {
        let (batcher, batcher_task) = UsageBatcher::start(store.clone(), config.batcher);
        let recorder = Arc::new(UsageRecorder::new(batcher.clone(), store.clone(), Arc::clone(&clock)));
        let retention = config.retention;
        let reconciler = UsageReconciler { store: store.clone(), retention, clock, result: Arc::default() };
        let jobs = Self {
            batcher_task,
            sweeper: Arc::new(UsageSweeper { store, retention }),
            sweep_task: None,
            reconciler,
            reconcile_interval: config.reconcile_interval,
            reconcile_task: None,
        };
        (recorder, batcher, jobs)
    }

    /// Starts periodic sweeps once the schema is ready, and comparisons of totals with their events if configured.
    pub(crate) fn spawn_maintenance(&mut self, readiness: watch::Receiver<Readiness>) {
        if let Some(interval) = self.reconcile_interval {
            let reconciler = self.reconciler.clone();
            self.reconcile_task = Some(tokio::spawn(reconciler.run(interval, readiness.clone())));
        }
        self.sweep_task = Some(tokio::spawn(run_usage_sweep(Arc::clone(&self.sweeper), readiness)));
    }

    /// Compares all totals with their events.
    pub(crate) async fn reconcile(&self) -> Result<(), StoreError> {
        self.reconciler.compare_totals().await
    }

    /// Returns the result of the last comparison, and the configured interval.
    pub(crate) fn reconcile_result(&self) -> (Arc<ReconcileResult>, Option<Duration>) {
        (Arc::clone(&self.reconciler.result), self.reconcile_interval)
    }

    /// Deletes old requests and events.
    pub(crate) async fn sweep(&self) -> Result<(), StoreError> {
        self.sweeper.sweep().await
    }
}

impl Drop for UsageJobs {
    fn drop(&mut self) {
        for task in self.sweep_task.iter().chain(&self.reconcile_task) {
            task.abort();
        }
    }
}

impl UsageSweeper {
    async fn sweep(&self) -> Result<(), StoreError> {
        let call = || Call::within(Lane::Maintenance, SWEEP_BATCH_TIMEOUT);
        usage::sweep_usage(&self.store, self.retention, call).await
    }
}

async fn run_usage_sweep(sweeper: Arc<UsageSweeper>, mut readiness: watch::Receiver<Readiness>) {
    if !until_ready(&mut readiness).await {
        return;
    }
    loop {
        // Half an hour to one and a half, so that replicas do not sweep in step.
        let fraction = jitter::random_fraction(0.5);
        tokio::time::sleep(SWEEP_INTERVAL.mul_f64(0.5 + fraction)).await;
        // A failure is logged where it happens; what was not deleted is deleted the next time.
        let _ = sweeper.sweep().await;
    }
}
