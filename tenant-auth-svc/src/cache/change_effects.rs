//! What news mean for an entry that is in memory.

use super::{entry::CacheEntry, fence::Fence};
use crate::domain::change::{CacheableRecord, ChangeEvent, ChangeKind, PerSubject};

/// Of the news about an entry, those that it does not reflect.
pub(super) fn unreflected_changes<R: CacheableRecord>(
    entry: &CacheEntry<R>,
    news: &PerSubject<ChangeEvent>,
    fence: &Fence,
) -> Vec<ChangeKind> {
    let Some(record) = entry.record.as_deref() else { return Vec::new() };
    // Positions of what must be verified may be those of another log.
    let is_new = |news: &&ChangeEvent| {
        news.revision.is_none_or(|at| entry.revision < at) || fence.needs_revalidation(entry.epoch)
    };
    record.dependency_values(news).filter(is_new).map(|news| news.kind).collect()
}

/// Whether news may be about something that was absent before. Of what has ended meanwhile, either answer is a denial.
pub(super) fn may_be_creation(news: &ChangeEvent) -> bool {
    news.kind == ChangeKind::Changed
}

/// The entry with the ends that are known written into it; `None` if no end is among the fates.
pub(super) fn with_revocations<R: CacheableRecord>(
    entry: &CacheEntry<R>,
    fates: &[ChangeKind],
) -> Option<CacheEntry<R>> {
    let is_end = |fate: &ChangeKind| *fate != ChangeKind::Changed;
    if !fates.iter().any(is_end) {
        return None;
    }
    let mut record = entry.record.as_deref()?.clone();
    for fate in fates {
        record.apply_revocation(*fate);
    }
    Some(entry.outdated_by(record))
}
