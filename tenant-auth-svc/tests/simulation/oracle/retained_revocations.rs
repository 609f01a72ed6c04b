//! Revocations that a replica knew before the database was rolled back past them.

use std::collections::{HashMap, HashSet};

use super::{Oracle, ReplicaKnowledge};
use crate::history::EventOrder;

/// A revocation that a replica holds against the database.
#[derive(Clone, Debug)]
pub(crate) struct RetainedByReplica {
    /// The subject as the oracle names it: digest or tenant.
    pub(super) subject: String,
    pub(super) since: EventOrder,
    /// Whether the subject was not changed since; after a change, the database's state applies.
    pub(super) is_sure: bool,
}

/// The revocations that every replica knew at a disaster, by id.
#[derive(Debug)]
pub(crate) struct KnownRevocations(Vec<HashMap<String, RetainedByReplica>>);

impl Oracle {
    /// Returns the revocations that every replica knows in the current database. Those that it has learned
    /// since the event `since` are certain.
    pub(crate) fn known_revocations(&self, since: EventOrder) -> KnownRevocations {
        KnownRevocations(self.views.iter().map(|view| self.revocations_known_to(view, since)).collect())
    }

    fn revocations_known_to(
        &self,
        view: &ReplicaKnowledge,
        since: EventOrder,
    ) -> HashMap<String, RetainedByReplica> {
        let was_polled = |ended: EventOrder| {
            let first = view.first_polled.unwrap_or(EventOrder::MAX);
            ended > since.max(first) && ended < view.polled_up_to && view.was_reported(ended)
        };
        let retained =
            |subject: &str, is_sure| RetainedByReplica { subject: subject.to_owned(), since: 0, is_sure };
        let mut ends = HashMap::new();
        for (digest, history) in &self.keys {
            let Some(key) = history.last().as_ref().filter(|key| key.revoked) else { continue };
            let was_good = history.at(since).as_ref().is_some_and(|then| !then.revoked && then.id == key.id);
            ends.insert(key.id.clone(), retained(digest, was_good && was_polled(history.since())));
        }
        for (tenant, history) in self.tenants.iter().filter(|(_, history)| *history.last()) {
            let was_good = !*history.at(since);
            ends.insert(tenant.clone(), retained(tenant, was_good && was_polled(history.since())));
        }
        ends
    }

    /// Records that the database was accepted: from this event on, known revocations are retained against it.
    pub(crate) fn retain_revocations(&mut self, order: EventOrder, known: KnownRevocations) {
        for (view, ends) in self.views.iter_mut().zip(known.0) {
            for (id, end) in ends {
                let retained = view.retained_revocations.entry(id).or_insert_with(|| end.clone());
                *retained = RetainedByReplica {
                    since: order,
                    is_sure: retained.is_sure || end.is_sure,
                    subject: end.subject,
                };
            }
        }
    }

    /// Returns the ids of the revocations that a replica certainly holds.
    pub(crate) fn certainly_retained_revocations(&self, replica: usize) -> HashSet<&str> {
        let retained =
            self.views[replica].retained_revocations.iter().filter(|(_, retained)| retained.is_sure);
        retained.map(|(subject, _)| &**subject).collect()
    }
}
