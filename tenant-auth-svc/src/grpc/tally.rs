//! The decisions of an RPC by verdict, by source, and by failure, for the metrics.
//!
//! Each request has its own counts, so that threads do not contend. The metrics take them over with each
//! message of the response: a stream that lives for days is not counted only at its end.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::domain::{session::SessionVerdict, store::FailureKind, verdict::Source};

/// What a tally counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TallyKind {
    /// Decisions with this verdict.
    Verdict(SessionVerdict),
    /// Decisions with an answer from this source.
    Source(Source),
    /// Keys or sessions that were not decided, because of a database failure of this kind.
    Failure(FailureKind),
    /// Keys that were not checked.
    NotTried,
}

const SOURCES_OFFSET: usize = SessionVerdict::COUNT;
const FAILURES_OFFSET: usize = SOURCES_OFFSET + Source::ALL.len();
const NOT_TRIED_INDEX: usize = FAILURES_OFFSET + FailureKind::ALL.len();

impl TallyKind {
    /// The number of kinds.
    pub const COUNT: usize = NOT_TRIED_INDEX + 1;

    /// Iterates over all kinds, in order of their index.
    pub fn all() -> impl Iterator<Item = Self> {
        let sources = Source::ALL.into_iter().map(Self::Source);
        let failures = FailureKind::ALL.into_iter().map(Self::Failure);
        SessionVerdict::all().map(Self::Verdict).chain(sources).chain(failures).chain([Self::NotTried])
    }

    /// Returns the position in [`all`](Self::all).
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

    fn increment(&self, kind: TallyKind) {
        if let Some(count) = self.0.get(kind.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Resets the counts, and passes each nonzero count with its index to `counted`.
    pub fn drain(&self, mut counted: impl FnMut(usize, u32)) {
        for (index, count) in self.0.iter().enumerate() {
            // Most counts are zero: a load is cheap, a swap is not.
            if count.load(Ordering::Relaxed) > 0 {
                counted(index, count.swap(0, Ordering::Relaxed));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tally_kind_has_its_own_index() {
        let indices: Vec<_> = TallyKind::all().map(TallyKind::index).collect();
        assert_eq!(indices, (0..TallyKind::COUNT).collect::<Vec<_>>());
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
            tally.drain(|index, number| taken.push((index, number)));
            taken
        };
        let index = TallyKind::index;
        let expected = vec![
            (index(TallyKind::Verdict(SessionVerdict::Unbound)), 3),
            (index(TallyKind::Source(Source::Fresh)), 3),
            (index(TallyKind::Failure(FailureKind::Denied)), 1),
        ];
        assert_eq!(take(), expected);
        assert_eq!(take(), []);
    }
}
