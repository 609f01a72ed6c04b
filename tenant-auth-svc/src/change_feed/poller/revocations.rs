//! Ends that this replica has heard of: what a database that was restored from before they came may lack.

use std::collections::VecDeque;

use crate::domain::{
    change::{ChangeEvent, ChangeKind, PerSubject},
    verdict::Revision,
    watch::{Invalidation, Subject},
};

/// How many ends are kept.
const MAX_RECENT_REVOCATIONS: usize = 10_000;

/// The last ends, in the order of the log.
#[derive(Debug, Default)]
pub(super) struct RecentRevocations(VecDeque<(Invalidation, ChangeKind)>);

impl RecentRevocations {
    /// Takes in what was read: the changes in order, and what has become of what they are about.
    pub(super) fn record(&mut self, changes: &[Invalidation], about: &PerSubject<ChangeEvent>) {
        for change in changes {
            self.0.retain(|(known, _)| known.subject != change.subject);
            let news = match &change.subject {
                Subject::Key(id) => about.keys.get(id),
                Subject::Tenant(id) => about.tenants.get(id),
                Subject::Session(id) => about.sessions.get(id),
            };
            if let Some(ChangeEvent { kind: fate, .. }) = news.filter(|news| news.kind != ChangeKind::Changed)
            {
                self.0.push_back((change.clone(), *fate));
            }
        }
        while self.0.len() > MAX_RECENT_REVOCATIONS {
            self.0.pop_front();
        }
    }

    /// Those that came after a position.
    pub(super) fn after(&self, position: Revision) -> Vec<(Invalidation, ChangeKind)> {
        self.0.iter().filter(|(change, _)| change.revision > position).cloned().collect()
    }

    /// Lets go of those after a position: they are of another log than the one that is read from here on. The others are in both,
    /// and may be missing from the next one.
    pub(super) fn truncate_after(&mut self, position: Revision) {
        self.0.retain(|(change, _)| change.revision <= position);
    }
}

/// Ends by what they are about, as memory takes them.
pub(super) fn per_subject(ends: &[(Invalidation, ChangeKind)]) -> PerSubject<ChangeEvent> {
    let mut all = PerSubject::default();
    for (change, fate) in ends {
        let news = ChangeEvent { kind: *fate, revision: Some(change.revision) };
        match &change.subject {
            Subject::Key(id) => drop(all.keys.insert(id.clone(), news)),
            Subject::Tenant(id) => drop(all.tenants.insert(id.clone(), news)),
            Subject::Session(id) => drop(all.sessions.insert(id.clone(), news)),
        }
    }
    all
}
