//! What an RPC has decided, by verdict, by source, and by why not: for the metrics.
//!
//! A request counts for itself, where nobody else counts, and the metrics take over what has gathered with each piece
//! of its answer: a stream that lives for days is not counted only at its end.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::domain::{session::SessionVerdict, store::FailureKind, verdict::Source};

/// What a tally counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TallyKind {
    /// Decisions with this verdict.
    Verdict(SessionVerdict),
    /// Decisions with an answer from there.
    Source(Source),
    /// Nothing could be said, since the database failed in this way.
    Failure(FailureKind),
    /// It was not tried.
    NotTried,
}

const SOURCES_OFFSET: usize = SessionVerdict::COUNT;
const FAILURES_OFFSET: usize = SOURCES_OFFSET + Source::ALL.len();
const NOT_TRIED_INDEX: usize = FAILURES_OFFSET + FailureKind::ALL.len();

impl TallyKind {
    /// How many there are.
    pub const COUNT: usize = NOT_TRIED_INDEX + 1;

    /// All of them, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        let sources = Source::ALL.into_iter().map(Self::Source);
        let failures = FailureKind::ALL.into_iter().map(Self::Failure);
        SessionVerdict::all().map(Self::Verdict).chain(sources).chain(failures).chain([Self::NotTried])
    }

    /// Its place among [all](Self::all).
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Verdict(verdict) => verdict.index(),
            Self::Source(source) => SOURCES_OFFSET + source as usize,
            Self::Failure(kind) => FAILURES_OFFSET + kind as usize,
            Self::NotTried => NOT_TRIED_INDEX,
        }
    }
}

/// The counts of one RPC.
#[derive(Debug)]
pub struct Tally([AtomicU32; TallyKind::COUNT]);

impl Default for Tally {
    fn default() -> Self {
        Self([const { AtomicU32::new(0) }; TallyKind::COUNT])
    }
}

impl Tally {
    pub(super) fn count_decision(&self, verdict: SessionVerdict, source: Source) {
        self.increment(TallyKind::Verdict(verdict));
        self.increment(TallyKind::Source(source));
    }

    pub(super) fn count_failure(&self, kind: FailureKind) {
        self.increment(TallyKind::Failure(kind));
    }

    pub(super) fn count_not_tried(&self) {
        self.increment(TallyKind::NotTried);
    }

    fn increment(&self, what: TallyKind) {
        if let Some(count) = self.0.get(what.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes what has gathered: each place that has anything, and how much.
    pub fn drain(&self, mut counted: impl FnMut(usize, u32)) {
        for (place, count) in self.0.iter().enumerate() {
            // Most are zero: reading them costs nothing, and swapping each would.
            if count.load(Ordering::Relaxed) > 0 {
                counted(place, count.swap(0, Ordering::Relaxed));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tally_kind_has_its_own_index() {
        let places: Vec<_> = TallyKind::all().map(TallyKind::index).collect();
        assert_eq!(places, (0..TallyKind::COUNT).collect::<Vec<_>>());
    }

    #[test]
    fn drained_counts_are_not_drained_again() {
        let tally = Tally::default();
        for _ in 0..3 {
            tally.count_decision(SessionVerdict::Unbound, Source::Fresh);
        }
        tally.count_failure(FailureKind::Denied);
        let take = || {
            let mut taken = Vec::new();
            tally.drain(|place, number| taken.push((place, number)));
            taken
        };
        let place = |what: TallyKind| what.index();
        let expected = vec![
            (place(TallyKind::Verdict(SessionVerdict::Unbound)), 3),
            (place(TallyKind::Source(Source::Fresh)), 3),
            (place(TallyKind::Failure(FailureKind::Denied)), 1),
        ];
        assert_eq!(take(), expected);
        assert_eq!(take(), []);
    }
}
