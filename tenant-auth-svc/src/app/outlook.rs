//! What memory may rely on: whether the database answers, and whether its changes are heard.

use std::sync::Arc;

use super::Hop;
use crate::{
    domain::{freshness::World, store::Circuit},
    freshness::feed::Heard,
    store::cached::Outlook,
};

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
