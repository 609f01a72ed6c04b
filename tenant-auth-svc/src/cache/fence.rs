//! Orders reads of the database against changes that are applied meanwhile.
//!
//! Each change raises the epoch and leaves a mark. A load remembers the epoch before it reads. When its
//! result arrives, the marks show whether the result is still valid. Inserting entries takes the read lock on
//! the marks, and applying changes takes the write lock, so no result that was read before a change can be
//! inserted after it.

use std::{collections::HashMap, hash::Hash};

use super::sync::{AtomicU64, Ordering, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use crate::domain::{
    change::{CacheableRecord, ChangeEvent, ChangeKind, PerSubject},
    clock::UnixMillis,
    id::KeyId,
    inspect::AppliedChange,
    verdict::Revision,
};

/// A point in the order of changes: an operation that started under an epoch started before all changes of a
/// higher epoch.
pub(super) type Epoch = u64;

/// Above this number of marks the older half is dropped. A load that started before a dropped mark counts as
/// superseded.
const MAX_MARKS: usize = 20_000;

/// The epoch, and the marks under a lock.
#[derive(Debug)]
pub(super) struct Fence {
    epoch: AtomicU64,
    /// Entries that were loaded under a lower epoch need revalidation.
    revalidate_below: AtomicU64,
    /// The epoch of the latest change of a subject that several entries share.
    last_shared_change: AtomicU64,
    /// Negative entries that were loaded under a lower epoch are invalid: the record may exist by now.
    negative_valid_from: AtomicU64,
    marks: RwLock<ChangeMarks>,
}

/// The marks of applied changes.
#[derive(Debug, Default)]
pub(super) struct ChangeMarks {
    recent: PerSubject<ChangeMark>,
    older: PerSubject<ChangeMark>,
    /// Changes before this epoch are unknown.
    floor: Epoch,
    /// The last change of a subject without a cached record.
    last_creation: Option<ChangeMark>,
    /// Retained revocations: known ones that the database may not show.
    retained: PerSubject<ChangeKind>,
}

/// The latest change of a subject, and the epoch under which it was applied.
#[derive(Clone, Copy, Debug)]
struct ChangeMark {
    epoch: Epoch,
    event: ChangeEvent,
    /// When it was applied, by this replica's clock.
    applied_at: UnixMillis,
    /// The epoch of a later change by this replica whose outcome is unknown.
    attempted_epoch: Option<Epoch>,
}

/// The validity of a load's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FenceVerdict {
    /// It reflects all applied changes.
    UpToDate,
    /// It lacks these known revocations.
    Revoked(Vec<ChangeKind>),
    /// It may lack a change. A caller that asked under this epoch or a higher one has to load again.
    Superseded(Epoch),
    /// It was read after a change that it does not reflect: the database that responded is lagging. A reload
    /// does not help yet.
    Lagging,
}

impl Fence {
    pub(super) fn new() -> Self {
        Self {
            epoch: AtomicU64::new(0),
            revalidate_below: AtomicU64::new(0),
            last_shared_change: AtomicU64::new(0),
            negative_valid_from: AtomicU64::new(0),
            marks: RwLock::new(ChangeMarks::default()),
        }
    }

    /// Returns the epoch. Take it before a read starts.
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether an entry that was loaded under an epoch needs revalidation before it is served.
    pub(super) fn needs_revalidation(&self, load_epoch: Epoch) -> bool {
        load_epoch < self.revalidate_below.load(Ordering::Acquire)
    }

    /// Records that a subject which several entries share changes in this epoch. The caller has marked it.
    pub(super) fn record_shared_change(&self) {
        self.last_shared_change.store(self.epoch(), Ordering::Release);
    }

    /// Whether no subject that several entries share has changed since a load that started under an epoch.
    pub(super) fn are_subjects_unchanged_since(&self, load_epoch: Epoch) -> bool {
        load_epoch >= self.last_shared_change.load(Ordering::Acquire)
    }

    /// Whether a negative entry that was loaded under an epoch is still valid.
    pub(super) fn is_negative_valid(&self, load_epoch: Epoch) -> bool {
        load_epoch >= self.negative_valid_from.load(Ordering::Acquire) && !self.needs_revalidation(load_epoch)
    }

    /// Blocks changes while entries are inserted.
    pub(super) fn lock_for_insert(&self) -> RwLockReadGuard<'_, ChangeMarks> {
        // The marks are consistent even if a writer panicked.
        self.marks.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the last applied change of a key, if it is still recorded.
    pub(super) fn last_change(&self, key: &KeyId) -> Option<AppliedChange> {
        let marks = self.lock_for_insert();
        let mark = marks.recent.keys.get(key).or_else(|| marks.older.keys.get(key));
        let applied = mark.map(|mark| AppliedChange { event: mark.event, applied_at: Some(mark.applied_at) });
        applied.or_else(|| {
            let event = ChangeEvent { kind: *marks.retained.keys.get(key)?, revision: None };
            Some(AppliedChange { event, applied_at: None })
        })
    }

    /// Records changes that are applied at this time. The caller must remove the entries that they contradict before it drops the guard.
    pub(super) fn record_changes(
        &self,
        changes: &PerSubject<ChangeEvent>,
        at: UnixMillis,
    ) -> RwLockWriteGuard<'_, ChangeMarks> {
        let (mut marks, epoch) = self.advance_epoch();
        if marks.recent.len() + changes.len() > MAX_MARKS / 2 {
            marks.older = std::mem::take(&mut marks.recent);
            marks.floor = epoch;
        }
        marks.release_held(changes);
        record_marks(&mut marks.recent.keys, &changes.keys, (epoch, at));
        record_marks(&mut marks.recent.tenants, &changes.tenants, (epoch, at));
        record_marks(&mut marks.recent.sessions, &changes.sessions, (epoch, at));
        marks
    }

    /// Records a possible creation. Without a revision the caller knows the ids, and must remove their
    /// negative entries before it drops the guard. With a revision the id is unknown, so all negative entries
    /// become invalid.
    pub(super) fn record_creation(&self, revision: Option<Revision>) -> RwLockWriteGuard<'_, ChangeMarks> {
        let (mut marks, epoch) = self.advance_epoch();
        if revision.is_some() {
            self.negative_valid_from.store(epoch, Ordering::Release);
        }
        marks.last_creation = Some(ChangeMark::new(
            (epoch, UnixMillis(0)),
            ChangeEvent { kind: ChangeKind::Changed, revision },
        ));
        marks
    }

    /// Marks everything that was loaded, or is being loaded, as needing revalidation.
    pub(super) fn require_revalidation(&self) {
        let (mut marks, epoch) = self.advance_epoch();
        // The positions of the marks may be those of another log.
        let retained = std::mem::take(&mut marks.retained);
        *marks = ChangeMarks { floor: epoch, retained, ..ChangeMarks::default() };
        self.revalidate_below.store(epoch, Ordering::Release);
    }

    /// Makes revocations apply to everything that is read without them.
    pub(super) fn retain_revocations(
        &self,
        revocations: &PerSubject<ChangeEvent>,
    ) -> RwLockWriteGuard<'_, ChangeMarks> {
        let (mut marks, _) = self.advance_epoch();
        extend_retained(&mut marks.retained.keys, &revocations.keys);
        extend_retained(&mut marks.retained.tenants, &revocations.tenants);
        extend_retained(&mut marks.retained.sessions, &revocations.sessions);
        marks
    }

    fn advance_epoch(&self) -> (RwLockWriteGuard<'_, ChangeMarks>, Epoch) {
        let marks = self.marks.write().unwrap_or_else(PoisonError::into_inner);
        let epoch = self.epoch.fetch_add(1, Ordering::AcqRel) + 1;
        (marks, epoch)
    }
}

fn record_marks<I: Clone + Eq + Hash>(
    marks: &mut HashMap<I, ChangeMark>,
    changes: &HashMap<I, ChangeEvent>,
    when: (Epoch, UnixMillis),
) {
    for (id, change) in changes {
        marks
            .entry(id.clone())
            .and_modify(|mark| mark.merge(*change, when))
            .or_insert(ChangeMark::new(when, *change));
    }
}

fn extend_retained<I: Clone + Eq + Hash>(
    retained: &mut HashMap<I, ChangeKind>,
    revocations: &HashMap<I, ChangeEvent>,
) {
    retained.extend(revocations.iter().map(|(id, change)| (id.clone(), change.kind)));
}

impl ChangeMarks {
    /// Releases retained revocations of subjects that the database reports as changed: its records of them are
    /// right again. A change without a revision may not have been committed, and releases nothing.
    fn release_held(&mut self, changes: &PerSubject<ChangeEvent>) {
        let is_reported =
            |change: Option<&ChangeEvent>| change.is_some_and(|change| change.revision.is_some());
        self.retained.keys.retain(|id, _| !is_reported(changes.keys.get(id)));
        self.retained.tenants.retain(|id, _| !is_reported(changes.tenants.get(id)));
        self.retained.sessions.retain(|id, _| !is_reported(changes.sessions.get(id)));
    }

    /// Evaluates a record that was read at `revision` by a load that started under epoch `load_epoch`.
    pub(super) fn evaluate<R: CacheableRecord>(
        &self,
        record: &R,
        load_epoch: Epoch,
        revision: Revision,
    ) -> FenceVerdict {
        if load_epoch < self.floor {
            return FenceVerdict::Superseded(self.floor);
        }
        let (mut revocations, mut superseded_at, mut is_lagging) = (Vec::new(), None, false);
        for mark in record.dependency_values(&self.recent).chain(record.dependency_values(&self.older)) {
            superseded_at =
                superseded_at.max(mark.attempted_epoch.filter(|attempted| load_epoch < *attempted));
            if mark.is_reflected(load_epoch, revision) {
                continue;
            }
            match mark.event.kind {
                ChangeKind::Revoked(_)
                | ChangeKind::Disabled
                | ChangeKind::Suspended
                | ChangeKind::Unbound => revocations.push(mark.event.kind),
                ChangeKind::Changed if load_epoch < mark.epoch => {
                    superseded_at = superseded_at.max(Some(mark.epoch))
                }
                ChangeKind::Changed => is_lagging = true,
            }
        }
        revocations.extend(record.dependency_values(&self.retained).filter(|kind| !record.reflects(**kind)));
        match superseded_at {
            // A revocation applies no matter what else has changed.
            _ if !revocations.is_empty() => FenceVerdict::Revoked(revocations),
            Some(epoch) => FenceVerdict::Superseded(epoch),
            None if is_lagging => FenceVerdict::Lagging,
            None => FenceVerdict::UpToDate,
        }
    }

    /// Evaluates a negative result for an id.
    pub(super) fn evaluate_negative<R: CacheableRecord>(
        &self,
        id: &R::Id,
        load_epoch: Epoch,
        revision: Revision,
    ) -> FenceVerdict {
        if load_epoch < self.floor {
            return FenceVerdict::Superseded(self.floor);
        }
        let named = [&self.recent, &self.older].into_iter().filter_map(|marks| R::value_for_id(id, marks));
        let mut is_lagging = false;
        for mark in named.chain(&self.last_creation) {
            if let Some(attempted) = mark.attempted_epoch.filter(|attempted| load_epoch < *attempted) {
                return FenceVerdict::Superseded(attempted);
            }
            if mark.is_reflected(load_epoch, revision) {
                continue;
            }
            if load_epoch < mark.epoch {
                return FenceVerdict::Superseded(mark.epoch);
            }
            is_lagging = true;
        }
        if is_lagging { FenceVerdict::Lagging } else { FenceVerdict::UpToDate }
    }
}

impl ChangeMark {
    fn new((epoch, applied_at): (Epoch, UnixMillis), change: ChangeEvent) -> Self {
        Self { epoch, event: change, applied_at, attempted_epoch: None }
    }

    /// A lagging read replica may report a change after this replica made a later one: the later one stays. A
    /// change that may not have been committed does not replace one that was.
    fn merge(&mut self, change: ChangeEvent, when: (Epoch, UnixMillis)) {
        match (self.event.revision, change.revision) {
            (Some(known), Some(new)) if new < known => {}
            (Some(_), None) => self.attempted_epoch = Some(when.0),
            // Reported again: the replica has known it since the first report.
            (Some(known), Some(new)) if new == known => {
                *self = Self::new((when.0, self.applied_at), change);
            }
            _ => *self = Self::new(when, change),
        }
    }

    /// Whether a read reflects the change: by its log position, or, for a change without one, because the
    /// read started after the change was applied.
    fn is_reflected(&self, load_epoch: Epoch, revision: Revision) -> bool {
        self.event.revision.map_or(load_epoch >= self.epoch, |changed_at| revision >= changed_at)
    }
}
