//! Revocations that a replica knew before the database was rolled back past them.

use std::collections::{HashMap, HashSet};

use super::{Oracle, ReplicaKnowledge};
use crate::history::{EventOrder, KeyEnd};

/// A revocation that a replica holds against the database.
#[derive(Clone, Debug)]
pub(crate) struct RetainedByReplica {
    /// The subject as the oracle names it: digest or tenant.
    pub(super) subject: String,
    /// How the key was ended; `None` for a tenant.
    pub(super) end: Option<KeyEnd>,
    /// Whether the key may also have been disabled before, which the replica may hold instead.
    pub(super) may_be_disabled: bool,
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
        let retained = |subject: &str, end, may_be_disabled, is_sure| RetainedByReplica {
            subject: subject.to_owned(),
            end,
            may_be_disabled,
            since: 0,
            is_sure,
        };
        let mut ends = HashMap::new();
        for (digest, history) in &self.keys {
            let Some(key) = history.last() else { continue };
            let may_be_disabled = history.any(|key| key.as_ref().is_some_and(|key| key.disabled));
            // A key that was enabled again is not held; but the replica may not have learned that.
            let end = match key.end() {
                None if !may_be_disabled => continue,
                end => end,
            };
            let was_good = history
                .at(since)
                .as_ref()
                .is_some_and(|then| end.is_some() && then.end().is_none() && then.id == key.id);
            let is_sure = was_good && was_polled(history.since());
            ends.insert(key.id.clone(), retained(digest, end, may_be_disabled, is_sure));
        }
        for (tenant, history) in self.tenants.iter().filter(|(_, history)| *history.last()) {
            let was_good = !*history.at(since);
            let is_sure = was_good && was_polled(history.since());
            ends.insert(tenant.clone(), retained(tenant, None, false, is_sure));
        }
        ends
    }

    /// Records that the database was accepted: from this event on, known revocations are retained against it.
    pub(crate) fn retain_revocations(&mut self, order: EventOrder, known: KnownRevocations) {
        for (view, ends) in self.views.iter_mut().zip(known.0) {
            for (id, end) in ends {
                let retained = view.retained_revocations.entry(id).or_insert_with(|| end.clone());
                let earlier = std::mem::replace(retained, end);
                retained.since = order;
                retained.is_sure |= earlier.is_sure && earlier.end == retained.end;
                retained.may_be_disabled |= earlier.may_be_disabled;
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
