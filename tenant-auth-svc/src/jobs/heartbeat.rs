//! Gives a sign of life when nobody else has: what tells a copy of the database that stands still from one in which nothing
//! happens.

use std::time::Duration;

use tokio::sync::watch;

use crate::{
    database::client::DatabaseClient,
    domain::{
        clock::SharedClock,
        jitter,
        store::{Call, FailureKind, Lane, Store as _, StoreError},
    },
    server::{
        ServiceStore,
        readiness::{Readiness, ReadinessState},
    },
};

/// How often it is looked whether one is due.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// How long the primary may take to say what it has, or to change it.
const PRIMARY_TIMEOUT: Duration = Duration::from_secs(1);

/// Who gives it.
#[derive(Clone, Debug)]
pub(crate) struct Heartbeat {
    pub(crate) database_client: DatabaseClient,
    pub(crate) store: ServiceStore,
    pub(crate) clock: SharedClock,
    pub(crate) interval: Duration,
}

impl Heartbeat {
    /// Gives it when it is due, from the moment the schema is in place.
    pub(crate) async fn run(self, mut readiness: watch::Receiver<Readiness>) {
        if readiness.wait_for(|readiness| matches!(readiness.state, ReadinessState::Ready)).await.is_err() {
            return;
        }
        loop {
            // Spread out, so that replicas seldom find it due together.
            let chance = jitter::random_fraction(0.5);
            tokio::time::sleep(CHECK_INTERVAL.mul_f64(0.5 + chance)).await;
            // A failure is logged where it happens. Then nobody can tell whether the copy moves.
            let _ = self.beat_if_due().await;
        }
    }

    /// Asks the primary for its heartbeat if the copy that is read has not shown another one for an interval, and gives one if nobody
    /// else has.
    pub(crate) async fn beat_if_due(&self) -> Result<(), StoreError> {
        let known = self.database_client.known_database();
        let at = self.clock.monotonic();
        if !known.is_heartbeat_due(self.interval, at) {
            return Ok(());
        }
        let call = || Call::within(Lane::Maintenance, PRIMARY_TIMEOUT);
        match self.store.read_primary_heartbeat(call()).await {
            Ok((beat, age)) => {
                known.record_primary_heartbeat(beat, at);
                if age >= self.interval {
                    let beat = self.store.write_heartbeat(call(), self.interval).await?;
                    known.record_primary_heartbeat(beat, at);
                }
                Ok(())
            }
            Err(error) => {
                // A refusal is an answer.
                if matches!(error.kind, FailureKind::TimedOut | FailureKind::Unreachable) {
                    known.record_primary_failure(at);
                }
                Err(error)
            }
        }
    }
}
