//! How changes affect a cached entry.

use super::{entry::CacheEntry, fence::Fence, shard::Keep, subjects::Unreflected};
use crate::domain::change::{CacheableRecord, ChangeEvent, ChangeKind};

/// Applies a change to an entry of its subject: a known revocation is written into it, any other change removes it.
pub(super) fn apply_change<R: CacheableRecord>(
    entry: &mut CacheEntry<R>,
    change: &ChangeEvent,
    fence: &Fence,
) -> Keep {
    // The positions of an entry that needs revalidation may be those of another log, so they are not
    // compared.
    let is_new = change.revision.is_none_or(|at| entry.read.revision < at)
        || fence.needs_revalidation(entry.read.epoch);
    match change.kind {
        _ if !is_new => Keep::Yes,
        ChangeKind::Changed => Keep::No,
        kind => {
            entry.apply_revocation(kind);
            Keep::Yes
        }
    }
}

/// Whether an entry does not count any more, because a subject that it shares with others has changed.
pub(super) fn is_superseded<R: CacheableRecord>(entry: &CacheEntry<R>, fence: &Fence) -> bool {
    entry.unreflected(fence) == Unreflected::Changed
}

/// Whether a change may have created something that is cached as negative. A revoked subject is denied either
/// way, so its negative entry may stay.
pub(super) fn may_be_creation(change: &ChangeEvent) -> bool {
    change.kind == ChangeKind::Changed
}
