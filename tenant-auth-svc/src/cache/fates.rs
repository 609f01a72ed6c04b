//! What news mean for an entry that is in memory.

use super::{entry::Entry, fence::Fence};
use crate::domain::change::{BySubject, Fate, News, Record};

/// Of the news about an entry, those that it does not reflect.
pub(super) fn unreflected<R: Record>(entry: &Entry<R>, news: &BySubject<News>, fence: &Fence) -> Vec<Fate> {
    let Some(record) = entry.record.as_deref() else { return Vec::new() };
    // Positions of what must be verified may be those of another log.
    let is_new =
        |news: &&News| news.revision.is_none_or(|at| entry.revision < at) || fence.must_verify(entry.began);
    record.among(news).filter(is_new).map(|news| news.fate).collect()
}

/// Whether news may be about something that was absent before. Of what has ended meanwhile, either answer is a denial.
pub(super) fn may_be_new(news: &News) -> bool {
    news.fate == Fate::Changed
}

/// The entry with the ends that are known written into it; `None` if no end is among the fates.
pub(super) fn ended<R: Record>(entry: &Entry<R>, fates: &[Fate]) -> Option<Entry<R>> {
    let is_end = |fate: &Fate| *fate != Fate::Changed;
    if !fates.iter().any(is_end) {
        return None;
    }
    let mut record = entry.record.as_deref()?.clone();
    for fate in fates {
        record.end(*fate);
    }
    Some(entry.outdated_by(record))
}
