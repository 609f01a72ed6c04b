//! Metering while the service runs: committing what is recorded, and forgetting what is old.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};

use super::{
    Database, UsageMeter,
    readiness::{Readiness, State},
};
use crate::{
    config::UsageConfig,
    domain::{
        clock::SharedClock,
        store::{Call, Lane, StoreError},
        usage::{self, Meter, Retention},
    },
    store::grouped::{Committing, Grouped},
};

/// How often old requests and events are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(60 * 60);
/// How long one batch of that may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What goes on behind `UsageService`.
#[derive(Debug)]
pub(super) struct Metering {
    pub(super) committing: Committing,
    sweeper: Arc<Sweeper>,
    sweeping: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Sweeper {
    database: Database,
    retention: Retention,
}

impl Metering {
    /// Begins to commit; sweeping begins with [`begin_sweeping`](Self::begin_sweeping).
    pub(super) fn begin(
        database: Database,
        config: UsageConfig,
        clock: SharedClock,
    ) -> (Arc<UsageMeter>, Grouped, Self) {
        let (grouped, committing) = Grouped::begin(database.clone(), config.group);
        let meter = Arc::new(Meter::new(grouped.clone(), database.clone(), clock));
        let sweeper = Arc::new(Sweeper { database, retention: config.retention });
        (meter, grouped, Self { committing, sweeper, sweeping: None })
    }

    /// Sweeps now and then from the moment the schema is in place.
    pub(super) fn begin_sweeping(&mut self, readiness: watch::Receiver<Readiness>) {
        self.sweeping = Some(tokio::spawn(sweep_again_and_again(Arc::clone(&self.sweeper), readiness)));
    }

    /// Forgets what is old.
    pub(super) async fn sweep(&self) -> Result<(), StoreError> {
        self.sweeper.sweep().await
    }
}

impl Drop for Metering {
    fn drop(&mut self) {
        if let Some(sweeping) = &self.sweeping {
            sweeping.abort();
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
        let chance = getrandom::u32().map_or(0.5, |drawn| f64::from(drawn) / f64::from(u32::MAX));
        tokio::time::sleep(SWEEP_EVERY.mul_f64(0.5 + chance)).await;
        // A failure is logged where it happens; what was not forgotten goes the next time.
        let _ = sweeper.sweep().await;
    }
}
