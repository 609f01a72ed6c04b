//! Recent revocations. A database that is restored from an older backup may lack them.

use std::collections::VecDeque;

use crate::domain::{
    change::{ChangeEvent, ChangeKind, PerSubject},
    verdict::Revision,
    watch::{Invalidation, Subject},
};

/// Maximum number of revocations kept.
const MAX_RECENT_REVOCATIONS: usize = 10_000;

/// The recent revocations, in log order.
#[derive(Debug, Default)]
pub(super) struct RecentRevocations(VecDeque<(Invalidation, ChangeKind)>);

impl RecentRevocations {
    /// Records a page: its changes in order, and the kind of change of each subject.
    pub(super) fn record(&mut self, changes: &[Invalidation], per_subject: &PerSubject<ChangeEvent>) {
        for change in changes {
            self.0.retain(|(known, _)| known.subject != change.subject);
            let event = match &change.subject {
                Subject::Key(id) => per_subject.keys.get(id),
                Subject::Tenant(id) => per_subject.tenants.get(id),
                Subject::Session(id) => per_subject.sessions.get(id),
            };
            if let Some(ChangeEvent { kind, .. }) = event.filter(|event| event.kind != ChangeKind::Changed) {
                self.0.push_back((change.clone(), *kind));
            }
        }
        while self.0.len() > MAX_RECENT_REVOCATIONS {
            self.0.pop_front();
        }
    }

    /// Returns the revocations after a position.
    pub(super) fn after(&self, position: Revision) -> Vec<(Invalidation, ChangeKind)> {
        self.0.iter().filter(|(change, _)| change.revision > position).cloned().collect()
    }

    /// Removes the revocations after a position: they are not in the log that is read from now on. The
    /// earlier ones are in both logs, and may be missing from the next one.
    pub(super) fn truncate_after(&mut self, position: Revision) {
        self.0.retain(|(change, _)| change.revision <= position);
    }
}

/// Groups revocations by subject, as the cache expects them.
pub(super) fn per_subject(revocations: &[(Invalidation, ChangeKind)]) -> PerSubject<ChangeEvent> {
    let mut all = PerSubject::default();
    for (change, kind) in revocations {
        let event = ChangeEvent { kind: *kind, revision: Some(change.revision) };
        match &change.subject {
            Subject::Key(id) => drop(all.keys.insert(id.clone(), event)),
            Subject::Tenant(id) => drop(all.tenants.insert(id.clone(), event)),
            Subject::Session(id) => drop(all.sessions.insert(id.clone(), event)),
        }
    }
    all
}
