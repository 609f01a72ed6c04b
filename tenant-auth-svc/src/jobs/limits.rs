//! Limit jobs of the running service: exchange leases, end what has expired, delete what is old.

use std::time::Duration;

use tokio::{sync::watch, task::JoinHandle};

use super::readiness::{Readiness, until_ready};
use crate::{
    domain::{
        jitter,
        limit::LeaseStore as _,
        store::{Call, Lane, StoreError},
    },
    limit_leases::LeaseExchanger,
    service_types::{ServiceLimits, ServiceStore},
};

/// How often expired leases and reservations are ended, and old rows deleted. Each exchange ends some of them, too.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// Timeout of one batch of that.
const SWEEP_BATCH_TIMEOUT: Duration = Duration::from_secs(10);
/// How many rows of each kind one batch deletes.
const ROWS_PER_BATCH: usize = 500;

/// The jobs behind `LimitService`.
#[derive(Debug)]
pub(crate) struct LimitJobs {
    pub(crate) leases: ServiceLimits,
    exchanger: LeaseExchanger,
    store: ServiceStore,
    sweep_task: JoinHandle<()>,
}

impl LimitJobs {
    /// Starts the jobs; the sweep waits until the service is ready.
    pub(crate) fn spawn(
        limits: ServiceLimits,
        store: ServiceStore,
        readiness: watch::Receiver<Readiness>,
    ) -> Self {
        Self {
            exchanger: LeaseExchanger::start(limits.clone()),
            leases: limits,
            sweep_task: tokio::spawn(run_sweep(store.clone(), readiness)),
            store,
        }
    }

    /// Gives all leases back, within a time.
    pub(crate) async fn drain(&mut self, timeout: Duration) {
        self.exchanger.drain(timeout).await;
    }

    /// Ends what has expired and deletes what is old.
    pub(crate) async fn sweep(&self) -> Result<(), StoreError> {
        sweep(&self.store).await
    }
}

impl Drop for LimitJobs {
    fn drop(&mut self) {
        self.sweep_task.abort();
    }
}

async fn sweep(store: &ServiceStore) -> Result<(), StoreError> {
    while store.sweep_limits(Call::within(Lane::Maintenance, SWEEP_BATCH_TIMEOUT), ROWS_PER_BATCH).await? {}
    Ok(())
}

async fn run_sweep(store: ServiceStore, mut readiness: watch::Receiver<Readiness>) {
    if !until_ready(&mut readiness).await {
        return;
    }
    loop {
        // Half to one and a half, so that replicas do not sweep in step.
        tokio::time::sleep(SWEEP_INTERVAL.mul_f64(0.5 + jitter::random_fraction(0.5))).await;
        // A failure is logged where it happens; what was not deleted is deleted the next time.
        let _ = sweep(&store).await;
    }
}
