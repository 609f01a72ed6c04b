//! Metering while the service runs: committing what is recorded, forgetting what is old, and comparing totals with events.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};

use super::usage_reconciler::{Reconciled, Reconciler};
use crate::{
    config::UsageConfig,
    domain::{
        clock::SharedClock,
        jitter,
        store::{Call, Lane, StoreError},
        usage::{self, Meter, Retention},
    },
    server::{
        Database, UsageMeter,
        readiness::{Readiness, State},
    },
    usage_batcher::{Committing, Grouped},
};

/// How often old requests and events are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(60 * 60);
/// How long one batch of that may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What goes on behind `UsageService`.
#[derive(Debug)]
pub(crate) struct Metering {
    pub(crate) committing: Committing,
    sweeper: Arc<Sweeper>,
    sweeping: Option<JoinHandle<()>>,
    reconciler: Reconciler,
    /// `None`: only when it is told to.
    reconcile_interval: Option<Duration>,
    reconciling: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Sweeper {
    database: Database,
    retention: Retention,
}

impl Metering {
    /// Begins to commit; sweeping begins with [`begin_upkeep`](Self::begin_upkeep).
    pub(crate) fn begin(
        database: Database,
        config: UsageConfig,
        clock: SharedClock,
    ) -> (Arc<UsageMeter>, Grouped, Self) {
        let (grouped, committing) = Grouped::begin(database.clone(), config.group);
        let meter = Arc::new(Meter::new(grouped.clone(), database.clone(), Arc::clone(&clock)));
        let retention = config.retention;
        let reconciler = Reconciler { database: database.clone(), retention, clock, found: Arc::default() };
        let metering = Self {
            committing,
            sweeper: Arc::new(Sweeper { database, retention }),
            sweeping: None,
            reconciler,
            reconcile_interval: config.reconcile,
            reconciling: None,
        };
        (meter, grouped, metering)
    }

    /// Sweeps now and then from the moment the schema is in place, and compares totals with their events if it is to.
    pub(crate) fn begin_upkeep(&mut self, readiness: watch::Receiver<Readiness>) {
        if let Some(interval) = self.reconcile_interval {
            let reconciler = self.reconciler.clone();
            self.reconciling = Some(tokio::spawn(reconciler.keep_comparing(interval, readiness.clone())));
        }
        self.sweeping = Some(tokio::spawn(sweep_again_and_again(Arc::clone(&self.sweeper), readiness)));
    }

    /// Compares all totals with their events.
    pub(crate) async fn reconcile(&self) -> Result<(), StoreError> {
        self.reconciler.compare().await
    }

    /// What the last comparison found, and how often one is made.
    pub(crate) fn reconciled(&self) -> (Arc<Reconciled>, Option<Duration>) {
        (Arc::clone(&self.reconciler.found), self.reconcile_interval)
    }

    /// Forgets what is old.
    pub(crate) async fn sweep(&self) -> Result<(), StoreError> {
        self.sweeper.sweep().await
    }
}

impl Drop for Metering {
    fn drop(&mut self) {
        for task in self.sweeping.iter().chain(&self.reconciling) {
            task.abort();
        }
    }
}

impl Sweeper {
    async fn sweep(&self) -> Result<(), StoreError> {
        let call = || Call::within(Lane::Maintenance, PATIENCE);
        usage::sweep(&self.database, self.retention, call).await
    }
}

async fn sweep_again_and_again(sweeper: Arc<Sweeper>, mut readiness: watch::Receiver<Readiness>) {
    if readiness.wait_for(|now| matches!(now.state, State::Ready)).await.is_err() {
        return;
    }
    loop {
        // Half an hour to one and a half, so that replicas do not sweep in step.
        let chance = jitter::chance(0.5);
        tokio::time::sleep(SWEEP_EVERY.mul_f64(0.5 + chance)).await;
        // A failure is logged where it happens; what was not forgotten goes the next time.
        let _ = sweeper.sweep().await;
    }
}
