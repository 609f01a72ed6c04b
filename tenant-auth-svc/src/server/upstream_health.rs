//! Upstream health for the cache: whether the database responds, and whether its change feed is live.

use std::sync::Arc;

use super::foundation::Caches;
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
    caches: &Caches,
    is_followed: bool,
    clock: &SharedClock,
) -> ReplicaProbe {
    let health = health_probe(database_client, &caches.feed_liveness);
    let (database_client, clock) = (database_client.clone(), Arc::clone(clock));
    let (feed_liveness, grace) = (Arc::clone(&caches.feed_liveness), Arc::clone(&caches.grace));
    let longest_fresh = caches.key_config.policy.fresh_for(u8::MAX);
    Arc::new(move || {
        let now = clock.monotonic();
        let last_read_at = feed_liveness.last_read_at().filter(|_| is_followed);
        let upstream_health = health(now);
        ReplicaState {
            revision: database_client.known_database().position(),
            feed_age: last_read_at.map(|at| now.saturating_sub(at)),
            upstream_health,
            max_answer_age: match upstream_health {
                UpstreamHealth::Healthy | UpstreamHealth::FeedSilent => longest_fresh,
                UpstreamHealth::Failing { .. } => grace.at(now).max(longest_fresh),
            },
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
