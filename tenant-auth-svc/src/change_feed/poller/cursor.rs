//! The read position in the change log, and whether a read continues from it.

use std::{collections::VecDeque, time::Duration};

use crate::domain::change_log::LogPage;

/// Number of recent entries kept, to distinguish a lagging replica from a different log.
const MAX_RECENT_ENTRIES: usize = 1_000;
/// Time after which a log that ends before the position counts as rolled back. A lagging replica catches up
/// sooner.
const MAX_READ_REPLICA_LAG: Duration = Duration::from_secs(3);

/// The read position.
#[derive(Debug, Default)]
pub(super) struct FeedPosition {
    pub(super) seq: i64,
    /// The entry at `seq`, which identifies the log. `None` when the log was empty up to there.
    anchor: Option<String>,
    /// Whether the log has been read.
    pub(super) is_started: bool,
    /// The entries read most recently.
    recent_entries: VecDeque<(i64, String)>,
    /// Since when the log has ended before the position, and where it ended then.
    behind_since: Option<(Duration, i64)>,
}

/// How a read relates to the previous ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Continuity {
    /// It continues from the position.
    Continuous,
    /// It continues, but entries in between were pruned.
    Pruned,
    /// The log ends before the position: most likely, the read replica is lagging.
    Behind,
    /// It is a different log, or one that was rolled back.
    Diverged,
}

impl FeedPosition {
    /// Compares a read with the previous ones.
    pub(super) fn check_continuity(&mut self, page: &LogPage, now: Duration) -> Continuity {
        if !self.is_started {
            return Continuity::Continuous;
        }
        let is_behind = page.newest < self.seq;
        if self.is_contradicted_by(page) {
            self.behind_since.get_or_insert((now, 0));
            return Continuity::Diverged;
        }
        if is_behind {
            let (since, _) = *self.behind_since.get_or_insert((now, page.newest));
            let is_expired = now.saturating_sub(since) >= MAX_READ_REPLICA_LAG;
            return if is_expired { Continuity::Diverged } else { Continuity::Behind };
        }
        self.behind_since = None;
        if page.oldest > self.seq + 1 && page.newest > self.seq {
            Continuity::Pruned
        } else {
            Continuity::Continuous
        }
    }

    /// Whether a log is not the one that was read.
    pub(super) fn is_contradicted_by(&self, page: &LogPage) -> bool {
        let is_behind = page.newest < self.seq;
        // The last entry of a log that ends before the position must equal the entry that was read there.
        let expected = if is_behind { self.entry_at(page.newest) } else { self.anchor.as_ref() };
        expected.is_some() && page.anchor.is_some() && page.anchor.as_ref() != expected
    }

    /// Whether a read replica's log continues from the position without a gap.
    pub(super) fn is_continued_by(&self, page: &LogPage) -> bool {
        page.newest >= self.seq && !(page.oldest > self.seq + 1 && page.newest > self.seq)
    }

    /// After a discontinuity: the last position at which the log is known to be the one that was read. Later
    /// entries may be missing from it.
    pub(super) fn last_common_seq(&self) -> i64 {
        self.behind_since.map_or(0, |(_, end)| end)
    }

    /// Returns the entry at `seq`, which identifies the log.
    pub(super) fn anchor(&self) -> Option<&str> {
        self.anchor.as_deref()
    }

    /// Advances the position past a page.
    pub(super) fn advance(&mut self, page: &LogPage) {
        match page.last() {
            Some((seq, anchor)) => (self.seq, self.anchor) = (*seq, Some(anchor.clone())),
            None if !self.is_started => (self.seq, self.anchor) = (page.newest, page.anchor.clone()),
            None => self.anchor.clone_from(&page.anchor),
        }
        self.is_started = true;
        self.recent_entries.extend(page.entries.iter().cloned());
        while self.recent_entries.len() > MAX_RECENT_ENTRIES {
            self.recent_entries.pop_front();
        }
    }

    /// Restarts at the end of a log.
    pub(super) fn restart(&mut self, page: &LogPage) {
        let (seq, anchor) = match page.last() {
            Some((seq, anchor)) => (*seq, Some(anchor.clone())),
            None => (page.newest, None),
        };
        *self = Self { seq, anchor, is_started: true, ..Self::default() };
    }

    fn entry_at(&self, seq: i64) -> Option<&String> {
        self.recent_entries.iter().rev().find(|(at, _)| *at == seq).map(|(_, entry)| entry)
    }
}
