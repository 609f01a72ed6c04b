//! Upstream health for the cache: whether the database responds, and whether its change feed is live.

use std::sync::Arc;

use crate::{
    cache::HealthProbe,
    change_feed::poller::FeedLiveness,
    database::client::DatabaseClient,
    domain::{
        cache_policy::UpstreamHealth,
        clock::SharedClock,
        inspect::{ReplicaProbe, ReplicaState},
        store::Circuit,
    },
};

/// Returns the probe that reports the state of this replica. A feed that is not polled counts as never live.
pub(super) fn replica_probe(
    database_client: &DatabaseClient,
    feed_liveness: &Arc<FeedLiveness>,
    is_followed: bool,
    clock: &SharedClock,
) -> ReplicaProbe {
    let health = health_probe(database_client, feed_liveness);
    let (database_client, feed_liveness, clock) =
        (database_client.clone(), Arc::clone(feed_liveness), Arc::clone(clock));
    Box::new(move || {
        let now = clock.monotonic();
        let last_read_at = feed_liveness.last_read_at().filter(|_| is_followed);
        ReplicaState {
            revision: database_client.known_database().position(),
            feed_age: last_read_at.map(|at| now.saturating_sub(at)),
            upstream_health: health(now),
        }
    })
}

/// Returns the health probe of the database and its feed.
pub(super) fn health_probe(
    database_client: &DatabaseClient,
    feed_liveness: &Arc<FeedLiveness>,
) -> HealthProbe {
    let (database_client, feed_liveness) = (database_client.clone(), Arc::clone(feed_liveness));
    Box::new(move |now| {
        let breaker = database_client.breaker();
        if database_client.known_database().is_unusable() {
            UpstreamHealth::Failing { probe: false }
        } else if breaker.is_open(Circuit::Lookups) {
            UpstreamHealth::Failing { probe: breaker.is_probe_due(Circuit::Lookups) }
        } else if feed_liveness.is_alive(now) {
            UpstreamHealth::Healthy
        } else {
            UpstreamHealth::FeedSilent
        }
    })
}
