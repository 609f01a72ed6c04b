//! Gives a sign of life when nobody else has: what tells a copy of the database that stands still from one in which nothing
//! happens.

use std::time::Duration;

use tokio::sync::watch;

use crate::{
    domain::{
        clock::SharedClock,
        jitter,
        store::{Call, FailureKind, Lane, Store as _, StoreError},
    },
    server::{
        Database, Hop,
        readiness::{Readiness, State},
    },
};

/// How often it is looked whether one is due.
const LOOK: Duration = Duration::from_millis(250);
/// How long the primary may take to say what it has, or to change it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who gives it.
#[derive(Clone, Debug)]
pub(crate) struct Heartbeat {
    pub(crate) hop: Hop,
    pub(crate) database: Database,
    pub(crate) clock: SharedClock,
    pub(crate) interval: Duration,
}

impl Heartbeat {
    /// Gives it when it is due, from the moment the schema is in place.
    pub(crate) async fn keep_beating(self, mut readiness: watch::Receiver<Readiness>) {
        if readiness.wait_for(|readiness| matches!(readiness.state, State::Ready)).await.is_err() {
            return;
        }
        loop {
            // Spread out, so that replicas seldom find it due together.
            let chance = jitter::chance(0.5);
            tokio::time::sleep(LOOK.mul_f64(0.5 + chance)).await;
            // A failure is logged where it happens. Then nobody can tell whether the copy moves.
            let _ = self.beat_if_due().await;
        }
    }

    /// Asks the primary for its heartbeat if the copy that is read has not shown another one for an interval, and gives one if nobody
    /// else has.
    pub(crate) async fn beat_if_due(&self) -> Result<(), StoreError> {
        let known = self.hop.known();
        let at = self.clock.monotonic();
        if !known.is_heartbeat_due(self.interval, at) {
            return Ok(());
        }
        let call = || Call::within(Lane::Maintenance, PATIENCE);
        match self.database.heartbeat_at_primary(call()).await {
            Ok((beat, age)) => {
                known.primary_had_heartbeat(beat, at);
                if age >= self.interval {
                    let beat = self.database.beat(call(), self.interval).await?;
                    known.primary_had_heartbeat(beat, at);
                }
                Ok(())
            }
            Err(error) => {
                // A refusal is an answer.
                if matches!(error.kind, FailureKind::TimedOut | FailureKind::Unreachable) {
                    known.primary_gave_no_answer(at);
                }
                Err(error)
            }
        }
    }
}
