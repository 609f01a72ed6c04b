//! Writes the heartbeat if no other replica has: it distinguishes a stalled read replica of the database from one
//! without changes.

use std::time::Duration;

use tokio::sync::watch;

use super::readiness::{Readiness, until_ready};
use crate::{
    database::client::DatabaseClient,
    domain::{
        clock::SharedClock,
        jitter,
        store::{Call, FailureKind, Lane, Store as _, StoreError},
    },
    service_types::ServiceStore,
};

/// How often to check whether a heartbeat is due.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// Timeout of reading or writing the heartbeat at the primary.
const PRIMARY_TIMEOUT: Duration = Duration::from_secs(1);

/// Writes the heartbeat.
#[derive(Clone, Debug)]
pub(crate) struct Heartbeat {
    pub(crate) database_client: DatabaseClient,
    pub(crate) store: ServiceStore,
    pub(crate) clock: SharedClock,
    pub(crate) interval: Duration,
}

impl Heartbeat {
    /// Writes the heartbeat when it is due, from the time the schema is ready.
    pub(crate) async fn run(self, mut readiness: watch::Receiver<Readiness>) {
        if !until_ready(&mut readiness).await {
            return;
        }
        loop {
            // Randomized, so that replicas seldom find it due at the same time.
            let fraction = jitter::random_fraction(0.5);
            tokio::time::sleep(CHECK_INTERVAL.mul_f64(0.5 + fraction)).await;
            // A failure is logged where it happens. Until the next success, a stall cannot be detected.
            let _ = self.beat_if_due().await;
        }
    }

    /// Reads the heartbeat at the primary if the read replica has not shown a newer one for an interval, and writes
    /// one if no other replica has.
    pub(crate) async fn beat_if_due(&self) -> Result<(), StoreError> {
        let known = self.database_client.known_database();
        let asked_at = self.clock.monotonic();
        if !known.is_heartbeat_due(self.interval, asked_at) {
            return Ok(());
        }
        let call = || Call::within(Lane::Maintenance, PRIMARY_TIMEOUT);
        match self.store.read_primary_heartbeat(call()).await {
            Ok((beat, age)) => {
                // From the response on: a slow primary does not make the read replica look stalled.
                known.record_primary_heartbeat(beat, self.clock.monotonic());
                if age >= self.interval {
                    let beat = self.store.write_heartbeat(call(), self.interval).await?;
                    known.record_primary_heartbeat(beat, self.clock.monotonic());
                }
                Ok(())
            }
            Err(error) => {
                // A rejection is a response: the primary is reachable.
                if matches!(error.kind, FailureKind::TimedOut | FailureKind::Unreachable) {
                    known.record_primary_failure(asked_at);
                }
                Err(error)
            }
        }
    }
}
