//! What memory may rely on: whether the database answers, and whether its changes are heard.

use std::sync::Arc;

use super::Hop;
use crate::{
    cache::Outlook,
    change_feed::reader::Heard,
    domain::{
        clock::SharedClock,
        freshness::World,
        inspect::{ReplicaProbe, ReplicaState},
        store::Circuit,
    },
};

/// How this replica is, for whoever asks it. A feed that is not followed was never heard.
pub(super) fn replica(hop: &Hop, heard: &Arc<Heard>, is_followed: bool, clock: &SharedClock) -> ReplicaProbe {
    let outlook = outlook(hop, heard);
    let (hop, heard, clock) = (hop.clone(), Arc::clone(heard), Arc::clone(clock));
    Box::new(move || {
        let now = clock.monotonic();
        let last = heard.last().filter(|_| is_followed);
        ReplicaState {
            revision: hop.known().position(),
            feed_age: last.map(|at| now.saturating_sub(at)),
            world: outlook(now),
        }
    })
}

/// How the database and its feed fare, as memory wants to know it.
pub(super) fn outlook(hop: &Hop, heard: &Arc<Heard>) -> Outlook {
    let (hop, heard) = (hop.clone(), Arc::clone(heard));
    Box::new(move |now| {
        let breaker = hop.breaker();
        if hop.known().is_out_of_reach() {
            World::Failing { probe: false }
        } else if breaker.is_open(Circuit::Lookups) {
            World::Failing { probe: breaker.is_probe_due(Circuit::Lookups) }
        } else if heard.recently(now) {
            World::Heard
        } else {
            World::Silent
        }
    })
}
