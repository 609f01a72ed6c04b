//! What a replica knew to have ended before the database was rolled back to before that.

use std::collections::{HashMap, HashSet};

use super::{Oracle, View};
use crate::history::Order;

/// An end that a replica holds against the database.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// What it is about, as the oracle names it: by digest or tenant.
    pub(super) subject: String,
    pub(super) since: Order,
    /// Whether nobody has changed what it is about since: from then on the database is right about it.
    pub(super) is_sure: bool,
}

/// What every replica knew to have ended when something happened to the database, by id, with what the oracle names
/// it by.
#[derive(Debug)]
pub(crate) struct Known(Vec<HashMap<String, String>>);

impl Oracle {
    /// What every replica has heard to have ended since an event, and is as it was told.
    pub(crate) fn known_ends(&self, since: Order) -> Known {
        Known(self.views.iter().map(|view| self.ends_heard(view, since)).collect())
    }

    fn ends_heard(&self, view: &View, since: Order) -> HashMap<String, String> {
        let Some(first) = view.first_heard else { return HashMap::new() };
        let heard = |ended: Order| ended > since.max(first) && ended < view.heard && view.was_told(ended);
        let mut ends = HashMap::new();
        for (digest, history) in &self.keys {
            let (Some(then), Some(now)) = (history.at(since), history.last()) else { continue };
            if !then.revoked && now.revoked && then.id == now.id && heard(history.since()) {
                ends.insert(now.id.clone(), digest.clone());
            }
        }
        for (tenant, history) in &self.tenants {
            if !*history.at(since) && *history.last() && heard(history.since()) {
                ends.insert(tenant.clone(), tenant.clone());
            }
        }
        ends
    }

    /// The database was accepted as it is: from this event on, what was known to have ended is held against it.
    pub(crate) fn hold(&mut self, order: Order, known: Known) {
        for (view, ends) in self.views.iter_mut().zip(known.0) {
            let held = |subject| Held { subject, since: order, is_sure: true };
            view.held.extend(ends.into_iter().map(|(id, subject)| (id, held(subject))));
        }
    }

    /// The ids of what a replica surely holds to have ended.
    pub(crate) fn held_for_sure(&self, replica: usize) -> HashSet<&str> {
        let held = self.views[replica].held.iter().filter(|(_, held)| held.is_sure);
        held.map(|(subject, _)| &**subject).collect()
    }
}
