//! What a replica knew to have ended before the database was rolled back to before that.

use std::collections::{HashMap, HashSet};

use super::{Oracle, ReplicaKnowledge};
use crate::history::EventOrder;

/// An end that a replica holds against the database.
#[derive(Clone, Debug)]
pub(crate) struct HeldByReplica {
    /// What it is about, as the oracle names it: by digest or tenant.
    pub(super) subject: String,
    pub(super) since: EventOrder,
    /// Whether nobody has changed what it is about since: from then on the database is right about it.
    pub(super) is_sure: bool,
}

/// What every replica knew to have ended when something happened to the database, by id.
#[derive(Debug)]
pub(crate) struct KnownRevocations(Vec<HashMap<String, HeldByReplica>>);

impl Oracle {
    /// What every replica knows to have ended, as the database is now: for sure what it has heard of since an event.
    pub(crate) fn known_revocations(&self, since: EventOrder) -> KnownRevocations {
        KnownRevocations(self.views.iter().map(|view| self.revocations_known_to(view, since)).collect())
    }

    fn revocations_known_to(
        &self,
        view: &ReplicaKnowledge,
        since: EventOrder,
    ) -> HashMap<String, HeldByReplica> {
        let heard = |ended: EventOrder| {
            let first = view.first_polled.unwrap_or(EventOrder::MAX);
            ended > since.max(first) && ended < view.polled_up_to && view.was_reported(ended)
        };
        let held = |subject: &str, is_sure| HeldByReplica { subject: subject.to_owned(), since: 0, is_sure };
        let mut ends = HashMap::new();
        for (digest, history) in &self.keys {
            let Some(key) = history.last().as_ref().filter(|key| key.revoked) else { continue };
            let was_good = history.at(since).as_ref().is_some_and(|then| !then.revoked && then.id == key.id);
            ends.insert(key.id.clone(), held(digest, was_good && heard(history.since())));
        }
        for (tenant, history) in self.tenants.iter().filter(|(_, history)| *history.last()) {
            let was_good = !*history.at(since);
            ends.insert(tenant.clone(), held(tenant, was_good && heard(history.since())));
        }
        ends
    }

    /// The database was accepted as it is: from this event on, what was known to have ended is held against it.
    pub(crate) fn hold_revocations(&mut self, order: EventOrder, known: KnownRevocations) {
        for (view, ends) in self.views.iter_mut().zip(known.0) {
            for (id, end) in ends {
                let held = view.held_revocations.entry(id).or_insert_with(|| end.clone());
                *held = HeldByReplica {
                    since: order,
                    is_sure: held.is_sure || end.is_sure,
                    subject: end.subject,
                };
            }
        }
    }

    /// The ids of what a replica surely holds to have ended.
    pub(crate) fn certainly_held_revocations(&self, replica: usize) -> HashSet<&str> {
        let held = self.views[replica].held_revocations.iter().filter(|(_, held)| held.is_sure);
        held.map(|(subject, _)| &**subject).collect()
    }
}
