//! What a replica knew to have ended before the database was rolled back to before that.

use std::collections::{HashMap, HashSet};

use super::{Oracle, View};
use crate::history::Order;

/// An end that a replica holds against the database.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// What it is about, as the oracle names it: by digest or tenant.
    pub(super) subject: String,
    pub(super) since: Order,
    /// Whether nobody has changed what it is about since: from then on the database is right about it.
    pub(super) is_sure: bool,
}

/// What every replica knew to have ended when something happened to the database, by id.
#[derive(Debug)]
pub(crate) struct Known(Vec<HashMap<String, Held>>);

impl Oracle {
    /// What every replica knows to have ended, as the database is now: for sure what it has heard of since an event.
    pub(crate) fn known_ends(&self, since: Order) -> Known {
        Known(self.views.iter().map(|view| self.ends(view, since)).collect())
    }

    fn ends(&self, view: &View, since: Order) -> HashMap<String, Held> {
        let heard = |ended: Order| {
            let first = view.first_heard.unwrap_or(Order::MAX);
            ended > since.max(first) && ended < view.heard && view.was_told(ended)
        };
        let held = |subject: &str, is_sure| Held { subject: subject.to_owned(), since: 0, is_sure };
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
    pub(crate) fn hold(&mut self, order: Order, known: Known) {
        for (view, ends) in self.views.iter_mut().zip(known.0) {
            for (id, end) in ends {
                let held = view.held.entry(id).or_insert_with(|| end.clone());
                *held = Held { since: order, is_sure: held.is_sure || end.is_sure, subject: end.subject };
            }
        }
    }

    /// The ids of what a replica surely holds to have ended.
    pub(crate) fn held_for_sure(&self, replica: usize) -> HashSet<&str> {
        let held = self.views[replica].held.iter().filter(|(_, held)| held.is_sure);
        held.map(|(subject, _)| &**subject).collect()
    }
}
