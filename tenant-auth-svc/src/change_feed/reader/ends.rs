//! Ends that this replica has heard of: what a database that was restored from before they came may lack.

use std::collections::VecDeque;

use crate::domain::{
    change::{BySubject, Fate, News},
    verdict::Revision,
    watch::{Invalidation, Subject},
};

/// How many ends are kept.
const MAX_ENDS: usize = 10_000;

/// The last ends, in the order of the log.
#[derive(Debug, Default)]
pub(super) struct Ends(VecDeque<(Invalidation, Fate)>);

impl Ends {
    /// Takes in what was read: the changes in order, and what has become of what they are about.
    pub(super) fn note(&mut self, changes: &[Invalidation], about: &BySubject<News>) {
        for change in changes {
            self.0.retain(|(known, _)| known.subject != change.subject);
            let news = match &change.subject {
                Subject::Key(id) => about.keys.get(id),
                Subject::Tenant(id) => about.tenants.get(id),
                Subject::Session(id) => about.sessions.get(id),
            };
            if let Some(News { fate, .. }) = news.filter(|news| news.fate != Fate::Changed) {
                self.0.push_back((change.clone(), *fate));
            }
        }
        while self.0.len() > MAX_ENDS {
            self.0.pop_front();
        }
    }

    /// Those that came after a position.
    pub(super) fn after(&self, position: Revision) -> Vec<(Invalidation, Fate)> {
        self.0.iter().filter(|(change, _)| change.revision > position).cloned().collect()
    }

    /// Lets go of those after a position: they are of another log than the one that is read from here on. The others are in both,
    /// and may be missing from the next one.
    pub(super) fn keep_up_to(&mut self, position: Revision) {
        self.0.retain(|(change, _)| change.revision <= position);
    }
}

/// Ends by what they are about, as memory takes them.
pub(super) fn by_subject(ends: &[(Invalidation, Fate)]) -> BySubject<News> {
    let mut all = BySubject::default();
    for (change, fate) in ends {
        let news = News { fate: *fate, revision: Some(change.revision) };
        match &change.subject {
            Subject::Key(id) => drop(all.keys.insert(id.clone(), news)),
            Subject::Tenant(id) => drop(all.tenants.insert(id.clone(), news)),
            Subject::Session(id) => drop(all.sessions.insert(id.clone(), news)),
        }
    }
    all
}
