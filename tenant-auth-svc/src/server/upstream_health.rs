//! What memory may rely on: whether the database answers, and whether its changes are heard.

use std::sync::Arc;

use super::DatabaseClient;
use crate::{
    cache::HealthProbe,
    change_feed::poller::FeedLiveness,
    domain::{
        cache_policy::UpstreamHealth,
        clock::SharedClock,
        inspect::{ReplicaProbe, ReplicaState},
        store::Circuit,
    },
};

/// How this replica is, for whoever asks it. A feed that is not followed was never heard.
pub(super) fn replica_probe(
    hop: &DatabaseClient,
    heard: &Arc<FeedLiveness>,
    is_followed: bool,
    clock: &SharedClock,
) -> ReplicaProbe {
    let outlook = health_probe(hop, heard);
    let (hop, heard, clock) = (hop.clone(), Arc::clone(heard), Arc::clone(clock));
    Box::new(move || {
        let now = clock.monotonic();
        let last = heard.last_read_at().filter(|_| is_followed);
        ReplicaState {
            revision: hop.known_database().position(),
            feed_age: last.map(|at| now.saturating_sub(at)),
            upstream_health: outlook(now),
        }
    })
}

/// How the database and its feed fare, as memory wants to know it.
pub(super) fn health_probe(hop: &DatabaseClient, heard: &Arc<FeedLiveness>) -> HealthProbe {
    let (hop, heard) = (hop.clone(), Arc::clone(heard));
    Box::new(move |now| {
        let breaker = hop.breaker();
        if hop.known_database().is_unusable() {
            UpstreamHealth::Failing { probe: false }
        } else if breaker.is_open(Circuit::Lookups) {
            UpstreamHealth::Failing { probe: breaker.is_probe_due(Circuit::Lookups) }
        } else if heard.is_alive(now) {
            UpstreamHealth::Healthy
        } else {
            UpstreamHealth::FeedSilent
        }
    })
}
