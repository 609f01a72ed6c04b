//! Metering while the service runs: committing what is recorded, forgetting what is old, and comparing totals with events.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};

use super::usage_reconciler::{ReconcileResult, UsageReconciler};
use crate::{
    config::UsageConfig,
    domain::{
        clock::SharedClock,
        jitter,
        store::{Call, Lane, StoreError},
        usage::{self, UsageRecorder, UsageRetention},
    },
    server::{
        ServiceStore, ServiceUsageRecorder,
        readiness::{Readiness, ReadinessState},
    },
    usage_batcher::{BatcherTask, UsageBatcher},
};

/// How often old requests and events are forgotten.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// How long one batch of that may take.
const SWEEP_BATCH_TIMEOUT: Duration = Duration::from_secs(10);

/// What goes on behind `UsageService`.
#[derive(Debug)]
pub(crate) struct UsageJobs {
    pub(crate) batcher_task: BatcherTask,
    sweeper: Arc<UsageSweeper>,
    sweep_task: Option<JoinHandle<()>>,
    reconciler: UsageReconciler,
    /// `None`: only when it is told to.
    reconcile_interval: Option<Duration>,
    reconcile_task: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct UsageSweeper {
    store: ServiceStore,
    retention: UsageRetention,
}

impl UsageJobs {
    /// Begins to commit; sweeping begins with [`begin_upkeep`](Self::begin_upkeep).
    pub(crate) fn start(
        database: ServiceStore,
        config: UsageConfig,
        clock: SharedClock,
    ) -> (Arc<ServiceUsageRecorder>, UsageBatcher, Self) {
        let (grouped, committing) = UsageBatcher::start(database.clone(), config.batcher);
        let meter = Arc::new(UsageRecorder::new(grouped.clone(), database.clone(), Arc::clone(&clock)));
        let retention = config.retention;
        let reconciler =
            UsageReconciler { store: database.clone(), retention, clock, result: Arc::default() };
        let metering = Self {
            batcher_task: committing,
            sweeper: Arc::new(UsageSweeper { store: database, retention }),
            sweep_task: None,
            reconciler,
            reconcile_interval: config.reconcile_interval,
            reconcile_task: None,
        };
        (meter, grouped, metering)
    }

    /// Sweeps now and then from the moment the schema is in place, and compares totals with their events if it is to.
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

    /// What the last comparison found, and how often one is made.
    pub(crate) fn reconcile_result(&self) -> (Arc<ReconcileResult>, Option<Duration>) {
        (Arc::clone(&self.reconciler.result), self.reconcile_interval)
    }

    /// Forgets what is old.
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
    if readiness.wait_for(|now| matches!(now.state, ReadinessState::Ready)).await.is_err() {
        return;
    }
    loop {
        // Half an hour to one and a half, so that replicas do not sweep in step.
        let chance = jitter::random_fraction(0.5);
        tokio::time::sleep(SWEEP_INTERVAL.mul_f64(0.5 + chance)).await;
        // A failure is logged where it happens; what was not forgotten goes the next time.
        let _ = sweeper.sweep().await;
    }
}
