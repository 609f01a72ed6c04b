//! Reads the change feed again and again; without a feed, looks whether a database that was away is back.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{
    database::{client::DatabaseClient, sql::probe},
    domain::{
        jitter,
        store::{Call, Circuit, Lane},
    },
    server::{
        ChangeFeed,
        readiness::{Readiness, ReadinessState},
    },
};

/// How often one of the replicas, whichever comes first, shortens the log.
const PRUNE_INTERVAL: Duration = Duration::from_secs(3_600);

/// Follows the feed from the moment the schema is in place, for as long as the service runs.
pub(crate) async fn poll_feed(
    feed: Arc<ChangeFeed>,
    interval: Duration,
    mut readiness: watch::Receiver<Readiness>,
) {
    if readiness.wait_for(|readiness| matches!(readiness.state, ReadinessState::Ready)).await.is_err() {
        return;
    }
    let reading = async {
        loop {
            // A failure is logged where it happens, and shows as silence.
            let _ = feed.poll().await;
            tokio::time::sleep(with_jitter(interval)).await;
        }
    };
    // Beside the reading, since a long log takes long to shorten.
    let pruning = async {
        loop {
            tokio::time::sleep(with_jitter(PRUNE_INTERVAL)).await;
            let _ = feed.prune().await;
        }
    };
    let ((), ()) = tokio::join!(reading, pruning);
}

/// How often to look, without a feed, and how long one look may take.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Takes the place of the feed where it is off: while nobody asks for anything, there is no other call that could find the
/// database back.
pub(crate) async fn probe_database(hop: DatabaseClient) {
    loop {
        tokio::time::sleep(with_jitter(PROBE_INTERVAL)).await;
        if hop.breaker().is_open(Circuit::Lookups) {
            // What comes of it, the breaker notes.
            let _ = probe::read(&hop, Call::within(Lane::Known, PROBE_INTERVAL)).await;
        }
    }
}

/// Up to 10 % shorter or longer, so that replicas do not read in step.
fn with_jitter(interval: Duration) -> Duration {
    let chance = jitter::random_fraction(0.5);
    interval.mul_f64(0.9 + 0.2 * chance)
}
