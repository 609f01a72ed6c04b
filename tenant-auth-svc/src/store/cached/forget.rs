//! Forgetting: what was read before a change must not be served after it.

use std::sync::{PoisonError, atomic::Ordering};

use super::{Cached, Inner};
use crate::domain::{
    admin::{Changed, Forget},
    key::KeyRecord,
    store::Store,
    verdict::Revision,
};

impl<S: Store> Forget for Cached<S> {
    fn forget(&self, changed: Changed<'_>) {
        let inner = &self.0;
        let mut epoch = inner.epoch.write().unwrap_or_else(PoisonError::into_inner);
        *epoch += 1;
        match changed {
            Changed::Added(hashes) => {
                for hash in hashes {
                    inner.absences.invalidate(hash);
                }
            }
            Changed::Key(id) => {
                inner.forget_if(|record| (record.key_id == *id).then_some(Revision::MAX));
            }
            Changed::Tenant(id) => {
                inner.forget_if(|record| (record.tenant_id == *id).then_some(Revision::MAX));
            }
            Changed::Many { keys, tenants } => {
                let mut seen = 0;
                inner.forget_if(|record| {
                    let key = keys.get(&record.key_id).copied();
                    seen += usize::from(key.is_some());
                    key.max(tenants.get(&record.tenant_id).copied())
                });
                // A key that is not here may be a new one, whose absence is; nobody can tell which.
                if seen < keys.len() {
                    inner.absences.invalidate_all();
                }
            }
            // What is loaded from here on begins under this epoch, or a higher one.
            Changed::Unclear => inner.verify_below.store(*epoch, Ordering::Release),
        }
    }
}

impl<S> Inner<S> {
    /// Removes the entries that were read before the change that concerns them. Walks all of them: changes are rare, and
    /// a second index would cost every load.
    fn forget_if(&self, mut changed_at: impl FnMut(&KeyRecord) -> Option<Revision>) {
        for (hash, entry) in &self.keys {
            let changed_at = entry.record.as_deref().and_then(&mut changed_at);
            // Revisions of what must be verified may be those of another log.
            if changed_at.is_some_and(|at| entry.revision < at || self.must_verify(&entry)) {
                self.keys.invalidate(&*hash);
            }
        }
    }
}
