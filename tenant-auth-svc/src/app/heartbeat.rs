//! Gives a sign of life when nobody else has: what tells a copy of the database that stands still from one in which nothing
//! happens.

use std::time::Duration;

use tokio::sync::watch;

use super::{
    Database, Hop,
    readiness::{Readiness, State},
};
use crate::domain::{
    clock::SharedClock,
    store::{Call, Lane, Store as _, StoreError},
};

/// How often it is looked whether one is due.
const LOOK: Duration = Duration::from_millis(250);
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who gives it.
#[derive(Clone, Debug)]
pub(super) struct Heartbeat {
    pub(super) hop: Hop,
    pub(super) database: Database,
    pub(super) clock: SharedClock,
    pub(super) interval: Duration,
}

impl Heartbeat {
    /// Gives it when it is due, from the moment the schema is in place.
    pub(super) async fn keep_beating(self, mut readiness: watch::Receiver<Readiness>) {
        if readiness.wait_for(|readiness| matches!(readiness.state, State::Ready)).await.is_err() {
            return;
        }
        loop {
            // Spread out, so that replicas seldom find it due together.
            let chance = getrandom::u32().map_or(0.5, |drawn| f64::from(drawn) / f64::from(u32::MAX));
            tokio::time::sleep(LOOK.mul_f64(0.5 + chance)).await;
            // A failure is logged where it happens. Then nobody can tell whether the copy moves.
            let _ = self.beat_if_due().await;
        }
    }

    /// Gives it if it is due.
    pub(super) async fn beat_if_due(&self) -> Result<(), StoreError> {
        let known = self.hop.known();
        let at = self.clock.monotonic();
        if known.is_heartbeat_due(self.interval, at) {
            let beat = self.database.beat(Call::within(Lane::Maintenance, PATIENCE), self.interval).await?;
            known.primary_had_heartbeat(beat, at);
        }
        Ok(())
    }
}
