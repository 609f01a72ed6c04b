//! Polls the change feed; without a feed, probes a database that was unavailable.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::readiness::{Readiness, until_ready};
use crate::{
    database::{client::DatabaseClient, sql::probe},
    domain::{
        jitter,
        store::{Call, Circuit, Lane},
    },
    service_types::ChangeFeed,
};

/// How often the change log is pruned; whichever replica comes first prunes it.
const PRUNE_INTERVAL: Duration = Duration::from_secs(3_600);

/// Polls the feed from the time the schema is ready, for as long as the service runs.
pub(crate) async fn poll_feed(
    feed: Arc<ChangeFeed>,
    interval: Duration,
    mut readiness: watch::Receiver<Readiness>,
) {
    if !until_ready(&mut readiness).await {
        return;
    }
    let polling = async {
        loop {
            // A failure is logged where it happens, and the feed becomes silent.
            let _ = feed.poll().await;
            tokio::time::sleep(with_jitter(interval)).await;
        }
    };
    // Concurrent to polling, because pruning a long log takes long.
    let pruning = async {
        loop {
            tokio::time::sleep(with_jitter(PRUNE_INTERVAL)).await;
            let _ = feed.prune().await;
        }
    };
    let ((), ()) = tokio::join!(polling, pruning);
}

/// Interval between two probes without a feed, and timeout of one probe.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Replaces the feed where it is off: without requests, no other call would detect that the database has recovered.
pub(crate) async fn probe_database(database_client: DatabaseClient) {
    loop {
        tokio::time::sleep(with_jitter(PROBE_INTERVAL)).await;
        if database_client.breaker().is_open(Circuit::Lookups) {
            // The breaker records the outcome.
            let _ = probe::read(&database_client, Call::within(Lane::Known, PROBE_INTERVAL)).await;
        }
    }
}

/// Makes an interval up to 10 % shorter or longer, so that replicas do not poll in step.
fn with_jitter(interval: Duration) -> Duration {
    let fraction = jitter::random_fraction(0.5);
    interval.mul_f64(0.9 + 0.2 * fraction)
}
