//! Where the reading of the log stands, and whether what is read next goes on from there.

use std::{collections::VecDeque, time::Duration};

use crate::domain::change_log::LogPage;

/// How many of the last entries are kept, to tell a copy that lags from a log that is another one.
const MAX_ENTRIES: usize = 1_000;
/// For how long a log may end before the position before it counts as rolled back: a copy that lags catches up sooner.
const MAX_BEHIND: Duration = Duration::from_secs(3);

/// Where the reading stands.
#[derive(Debug, Default)]
pub(super) struct Position {
    pub(super) seq: i64,
    /// The entry at `seq`, to recognise the log by. `None` when the log was empty up to there.
    mark: Option<String>,
    /// Whether the log was ever read.
    pub(super) begun: bool,
    /// The last entries that were read.
    entries: VecDeque<(i64, String)>,
    /// Since when the log has ended before the position, and where it ended then.
    behind: Option<(Duration, i64)>,
}

/// How a read follows the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Continuity {
    /// It goes on where they ended.
    GoesOn,
    /// It goes on, but what came in between was pruned.
    Pruned,
    /// It ends before the position. A copy that lags, most likely.
    Behind,
    /// It is another log, or lacks its end.
    Broken,
}

impl Position {
    /// Compares a read with those before it.
    pub(super) fn follows(&mut self, page: &LogPage, now: Duration) -> Continuity {
        if !self.begun {
            return Continuity::GoesOn;
        }
        let is_behind = page.newest < self.seq;
        // What stands at the end of a log that is behind is what stood there when it was read.
        let expected = if is_behind { self.entry(page.newest) } else { self.mark.as_ref() };
        if expected.is_some() && page.mark.is_some() && page.mark.as_ref() != expected {
            self.behind.get_or_insert((now, 0));
            return Continuity::Broken;
        }
        if is_behind {
            let (since, _) = *self.behind.get_or_insert((now, page.newest));
            let is_over = now.saturating_sub(since) >= MAX_BEHIND;
            return if is_over { Continuity::Broken } else { Continuity::Behind };
        }
        self.behind = None;
        if page.oldest > self.seq + 1 && page.newest > self.seq {
            Continuity::Pruned
        } else {
            Continuity::GoesOn
        }
    }

    /// Up to where a log that does not go on is surely the one that was read: what came after that may be missing from it.
    pub(super) fn common_end(&self) -> i64 {
        self.behind.map_or(0, |(_, end)| end)
    }

    /// The entry at `seq`, to recognise the log by.
    pub(super) fn mark(&self) -> Option<&str> {
        self.mark.as_deref()
    }

    /// Goes on behind what was read.
    pub(super) fn advance(&mut self, page: &LogPage) {
        match page.last() {
            Some((seq, mark)) => (self.seq, self.mark) = (*seq, Some(mark.clone())),
            None if !self.begun => (self.seq, self.mark) = (page.newest, page.mark.clone()),
            None => self.mark.clone_from(&page.mark),
        }
        self.begun = true;
        self.entries.extend(page.entries.iter().cloned());
        while self.entries.len() > MAX_ENTRIES {
            self.entries.pop_front();
        }
    }

    /// Begins anew at the end of a log.
    pub(super) fn restart(&mut self, page: &LogPage) {
        let (seq, mark) = match page.last() {
            Some((seq, mark)) => (*seq, Some(mark.clone())),
            None => (page.newest, None),
        };
        *self = Self { seq, mark, begun: true, ..Self::default() };
    }

    fn entry(&self, seq: i64) -> Option<&String> {
        self.entries.iter().rev().find(|(at, _)| *at == seq).map(|(_, entry)| entry)
    }
}
