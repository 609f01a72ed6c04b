//! Where the reading of the log stands, and whether what is read next goes on from there.

use std::{collections::VecDeque, time::Duration};

use crate::domain::change_log::LogPage;

/// How many of the last entries are kept, to tell a copy that lags from a log that is another one.
const MAX_RECENT_ENTRIES: usize = 1_000;
/// For how long a log may end before the position before it counts as rolled back: a copy that lags catches up sooner.
const MAX_COPY_LAG: Duration = Duration::from_secs(3);

/// Where the reading stands.
#[derive(Debug, Default)]
pub(super) struct FeedPosition {
    pub(super) seq: i64,
    /// The entry at `seq`, to recognise the log by. `None` when the log was empty up to there.
    anchor: Option<String>,
    /// Whether the log was ever read.
    pub(super) is_started: bool,
    /// The last entries that were read.
    recent_entries: VecDeque<(i64, String)>,
    /// Since when the log has ended before the position, and where it ended then.
    behind_since: Option<(Duration, i64)>,
}

/// How a read follows the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Continuity {
    /// It goes on where they ended.
    Continuous,
    /// It goes on, but what came in between was pruned.
    Pruned,
    /// It ends before the position. A copy that lags, most likely.
    Behind,
    /// It is another log, or lacks its end.
    Diverged,
}

impl FeedPosition {
    /// Compares a read with those before it.
    pub(super) fn check_continuity(&mut self, page: &LogPage, now: Duration) -> Continuity {
        if !self.is_started {
            return Continuity::Continuous;
        }
        let is_behind = page.newest < self.seq;
        // What stands at the end of a log that is behind is what stood there when it was read.
        let expected = if is_behind { self.entry_at(page.newest) } else { self.anchor.as_ref() };
        if expected.is_some() && page.anchor.is_some() && page.anchor.as_ref() != expected {
            self.behind_since.get_or_insert((now, 0));
            return Continuity::Diverged;
        }
        if is_behind {
            let (since, _) = *self.behind_since.get_or_insert((now, page.newest));
            let is_over = now.saturating_sub(since) >= MAX_COPY_LAG;
            return if is_over { Continuity::Diverged } else { Continuity::Behind };
        }
        self.behind_since = None;
        if page.oldest > self.seq + 1 && page.newest > self.seq {
            Continuity::Pruned
        } else {
            Continuity::Continuous
        }
    }

    /// Up to where a log that does not go on is surely the one that was read: what came after that may be missing from it.
    pub(super) fn last_common_seq(&self) -> i64 {
        self.behind_since.map_or(0, |(_, end)| end)
    }

    /// The entry at `seq`, to recognise the log by.
    pub(super) fn anchor(&self) -> Option<&str> {
        self.anchor.as_deref()
    }

    /// Goes on behind what was read.
    pub(super) fn advance(&mut self, page: &LogPage) {
        match page.last() {
            Some((seq, mark)) => (self.seq, self.anchor) = (*seq, Some(mark.clone())),
            None if !self.is_started => (self.seq, self.anchor) = (page.newest, page.anchor.clone()),
            None => self.anchor.clone_from(&page.anchor),
        }
        self.is_started = true;
        self.recent_entries.extend(page.entries.iter().cloned());
        while self.recent_entries.len() > MAX_RECENT_ENTRIES {
            self.recent_entries.pop_front();
        }
    }

    /// Begins anew at the end of a log.
    pub(super) fn restart(&mut self, page: &LogPage) {
        let (seq, mark) = match page.last() {
            Some((seq, mark)) => (*seq, Some(mark.clone())),
            None => (page.newest, None),
        };
        *self = Self { seq, anchor: mark, is_started: true, ..Self::default() };
    }

    fn entry_at(&self, seq: i64) -> Option<&String> {
        self.recent_entries.iter().rev().find(|(at, _)| *at == seq).map(|(_, entry)| entry)
    }
}
