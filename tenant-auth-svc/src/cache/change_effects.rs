//! How changes affect a cached entry.

use super::{entry::CacheEntry, fence::Fence};
use crate::domain::change::{CacheableRecord, ChangeEvent, ChangeKind, PerSubject};

/// Returns the changes that concern an entry and that it does not reflect.
pub(super) fn unreflected_changes<R: CacheableRecord>(
    entry: &CacheEntry<R>,
    changes: &PerSubject<ChangeEvent>,
    fence: &Fence,
) -> Vec<ChangeKind> {
    let Some(record) = entry.record.as_deref() else { return Vec::new() };
    // The positions of an entry that needs revalidation may be those of another log, so they are not
    // compared.
    let is_new = |change: &&ChangeEvent| {
        change.revision.is_none_or(|at| entry.revision < at) || fence.needs_revalidation(entry.epoch)
    };
    record.dependency_values(changes).filter(is_new).map(|change| change.kind).collect()
}

/// Whether a change may have created something that is cached as negative. A revoked subject is denied either
/// way, so its negative entry may stay.
pub(super) fn may_be_creation(change: &ChangeEvent) -> bool {
    change.kind == ChangeKind::Changed
}

/// Returns the entry with the known revocations written into it, or `None` if no change is a revocation.
pub(super) fn with_revocations<R: CacheableRecord>(
    entry: &CacheEntry<R>,
    kinds: &[ChangeKind],
) -> Option<CacheEntry<R>> {
    let is_revocation = |kind: &ChangeKind| *kind != ChangeKind::Changed;
    if !kinds.iter().any(is_revocation) {
        return None;
    }
    let mut record = entry.record.as_deref()?.clone();
    for kind in kinds {
        record.apply_revocation(*kind);
    }
    Some(entry.outdated_by(record))
}
