//! Subjects that many entries depend on: tenants, and the keys that opened sessions.
//!
//! A change of one is noted once, in a mark that all its entries point to, and each entry is compared with the mark when
//! it is used. So the change of a tenant costs the same with one key as with a million. What the records of a tenant
//! have in common is kept once, too.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::Arc,
};

use arrayvec::ArrayVec;

use super::{
    entry::ReadPoint,
    fence::{Epoch, Fence},
    sync::{AtomicU64, Mutex, MutexGuard, Ordering, PoisonError},
};
use crate::domain::{
    change::{CacheableRecord, ChangeEvent, ChangeKind, PerSubject, SharedParts},
    id::{PackedKeyId, TenantId},
    scope::ScopeSet,
    tenant::TenantSnapshot,
    verdict::Revision,
};

/// What a record costs beside its entry if it shares neither its tenant nor its scopes nor its key with another one, in
/// bytes: two marks, and places in three maps of which half may be free.
pub(super) const MAX_SUBJECT_BYTES: usize = 2 * (size_of::<SubjectMark>() + ARC_BYTES)
    + 2 * (size_of::<(TenantId, SharedTenant)>() + size_of::<(PackedKeyId, usize)>() + size_of::<usize>())
    + 2 * ARC_BYTES;
/// The counts of references before a shared value.
const ARC_BYTES: usize = 2 * size_of::<usize>();

/// The last changes of a subject.
#[derive(Debug, Default)]
pub(super) struct SubjectMark {
    /// The epoch of the latest one; 0 if there is none. An entry that was loaded later reflects all of them, or the fence
    /// would have kept it out.
    epoch: AtomicU64,
    changes: Mutex<LastChanges>,
}

#[derive(Debug, Default)]
struct LastChanges {
    /// The latest change with a position of the log.
    committed: Option<(Epoch, ChangeKind, Revision)>,
    /// The latest change by this replica whose outcome is unknown.
    attempted: Option<(Epoch, ChangeKind)>,
}

/// What has changed about the subjects of an entry since it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unreflected {
    /// Nothing.
    Nothing,
    /// These revocations apply to it.
    Revoked(Revocations),
    /// Something that only the database shows: the entry does not count any more.
    Changed,
}

/// Up to two revocations of each of two subjects.
pub(super) type Revocations = ArrayVec<ChangeKind, 4>;

impl Unreflected {
    /// Returns what both say.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Changed, _) | (_, Self::Changed) => Self::Changed,
            (Self::Nothing, other) | (other, Self::Nothing) => other,
            (Self::Revoked(mut kinds), Self::Revoked(others)) => {
                kinds.extend(others);
                Self::Revoked(kinds)
            }
        }
    }

    fn of(kind: ChangeKind) -> Self {
        match kind {
            ChangeKind::Changed => Self::Changed,
            ChangeKind::Revoked(_) | ChangeKind::Disabled | ChangeKind::Suspended | ChangeKind::Unbound => {
                Self::Revoked(Revocations::from_iter([kind]))
            }
        }
    }
}

impl SubjectMark {
    /// Notes a change that is applied in an epoch.
    fn record(&self, event: ChangeEvent, epoch: Epoch, fence: &Fence) {
        let mut changes = lock(&self.changes);
        match (event.revision, changes.committed) {
            (None, _) => changes.attempted = Some((epoch, event.kind)),
            // A lagging read replica may report a change after a later one is known. Positions from before the log was
            // replaced say nothing.
            (Some(at), Some((known_epoch, _, known)))
                if at < known && !fence.needs_revalidation(known_epoch) => {}
            (Some(at), _) => changes.committed = Some((epoch, event.kind, at)),
        }
        self.epoch.store(epoch, Ordering::Release);
    }

    /// Returns what an entry that is from this read does not reflect.
    pub(super) fn unreflected(&self, read: &ReadPoint, fence: &Fence) -> Unreflected {
        if read.epoch >= self.epoch.load(Ordering::Acquire) {
            return Unreflected::Nothing;
        }
        let changes = lock(&self.changes);
        let attempted = changes.attempted.filter(|(epoch, _)| read.epoch < *epoch);
        let committed = changes.committed.filter(|(epoch, _, at)| {
            // The position of an entry from before the log was replaced says nothing about a change after that.
            let is_other_log = fence.needs_revalidation(read.epoch) && !fence.needs_revalidation(*epoch);
            read.epoch < *epoch && (read.revision < *at || is_other_log)
        });
        let attempted = attempted.map_or(Unreflected::Nothing, |(_, kind)| Unreflected::of(kind));
        let committed = committed.map_or(Unreflected::Nothing, |(_, kind, _)| Unreflected::of(kind));
        attempted.and(committed)
    }
}

/// The subjects of the entries of a pool, and what its records share.
#[derive(Debug, Default)]
pub(super) struct Subjects {
    tenants: Mutex<HashMap<TenantId, SharedTenant>>,
    keys: Mutex<HashMap<PackedKeyId, Arc<SubjectMark>>>,
    scopes: Mutex<HashSet<Arc<ScopeSet>>>,
}

#[derive(Debug)]
struct SharedTenant {
    mark: Arc<SubjectMark>,
    /// The tenant as of the latest read.
    latest: Arc<TenantSnapshot>,
}

impl Subjects {
    /// Lets a record share what it has in common with others, and returns the marks of its tenant and key.
    pub(super) fn share<R: CacheableRecord>(
        &self,
        record: &mut R,
    ) -> (Arc<SubjectMark>, Option<Arc<SubjectMark>>) {
        let SharedParts { tenant, scopes, opened_by } = record.shared_parts();
        let mark = {
            let mut tenants = lock(&self.tenants);
            match tenants.get_mut(&tenant.id) {
                Some(shared) => {
                    if shared.latest == *tenant {
                        *tenant = Arc::clone(&shared.latest);
                    } else {
                        shared.latest = Arc::clone(tenant);
                    }
                    Arc::clone(&shared.mark)
                }
                None => {
                    let mark = Arc::new(SubjectMark::default());
                    let shared = SharedTenant { mark: Arc::clone(&mark), latest: Arc::clone(tenant) };
                    tenants.insert(tenant.id.clone(), shared);
                    mark
                }
            }
        };
        {
            let mut known = lock(&self.scopes);
            match known.get(scopes) {
                Some(shared) => *scopes = Arc::clone(shared),
                None => drop(known.insert(Arc::clone(scopes))),
            }
        }
        let key = opened_by.map(|key| Arc::clone(lock(&self.keys).entry(key.clone()).or_default()));
        (mark, key)
    }

    /// Notes changes that are applied in an epoch, for all entries that depend on their subjects.
    pub(super) fn record(&self, changes: &PerSubject<ChangeEvent>, epoch: Epoch, fence: &Fence) {
        let mut is_any = false;
        if !changes.tenants.is_empty() {
            let tenants = lock(&self.tenants);
            for (id, event) in &changes.tenants {
                if let Some(shared) = tenants.get(id) {
                    shared.mark.record(*event, epoch, fence);
                    is_any = true;
                }
            }
        }
        let keys = lock(&self.keys);
        if !keys.is_empty() {
            for (id, event) in &changes.keys {
                if let Some(mark) = keys.get(&PackedKeyId::from(id)) {
                    mark.record(*event, epoch, fence);
                    is_any = true;
                }
            }
        }
        // After the marks: whoever sees this sees them.
        if is_any {
            fence.record_shared_change();
        }
    }

    /// Returns the number of tenants and of sets of scopes.
    #[cfg(test)]
    pub(super) fn len(&self) -> (usize, usize) {
        (lock(&self.tenants).len(), lock(&self.scopes).len())
    }

    /// Forgets subjects that no entry depends on.
    pub(super) fn sweep(&self) {
        retain(&mut lock(&self.tenants), |shared| Arc::strong_count(&shared.mark) > 1);
        retain(&mut lock(&self.keys), |mark| Arc::strong_count(mark) > 1);
        let mut scopes = lock(&self.scopes);
        scopes.retain(|scopes| Arc::strong_count(scopes) > 1);
        if scopes.len() < scopes.capacity() / 4 {
            scopes.shrink_to_fit();
        }
    }
}

fn retain<K: Eq + Hash, V>(subjects: &mut HashMap<K, V>, is_used: impl Fn(&V) -> bool) {
    subjects.retain(|_, value| is_used(value));
    if subjects.len() < subjects.capacity() / 4 {
        subjects.shrink_to_fit();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is a single call, so a panic leaves what is locked consistent.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
