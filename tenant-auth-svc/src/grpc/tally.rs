//! What an RPC has decided, by verdict, by source, and by why not: for the metrics.
//!
//! A request counts for itself, where nobody else counts, and the metrics take over what has gathered with each piece
//! of its answer: a stream that lives for days is not counted only at its end.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::domain::{session::SessionVerdict, store::FailureKind, verdict::Source};

/// What a tally counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tallied {
    /// Decisions with this verdict.
    Verdict(SessionVerdict),
    /// Decisions with an answer from there.
    Source(Source),
    /// Nothing could be said, since the database failed in this way.
    Failure(FailureKind),
    /// It was not tried.
    NotTried,
}

const SOURCES: usize = SessionVerdict::COUNT;
const FAILURES: usize = SOURCES + Source::ALL.len();
const NOT_TRIED: usize = FAILURES + FailureKind::ALL.len();

impl Tallied {
    /// How many there are.
    pub const COUNT: usize = NOT_TRIED + 1;

    /// All of them, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        let sources = Source::ALL.into_iter().map(Self::Source);
        let failures = FailureKind::ALL.into_iter().map(Self::Failure);
        SessionVerdict::all().map(Self::Verdict).chain(sources).chain(failures).chain([Self::NotTried])
    }

    /// Its place among [all](Self::all).
    #[must_use]
    pub fn place(self) -> usize {
        match self {
            Self::Verdict(verdict) => verdict.place(),
            Self::Source(source) => SOURCES + source as usize,
            Self::Failure(kind) => FAILURES + kind as usize,
            Self::NotTried => NOT_TRIED,
        }
    }
}

/// The counts of one RPC.
#[derive(Debug)]
pub struct Tally([AtomicU32; Tallied::COUNT]);

impl Default for Tally {
    fn default() -> Self {
        Self([const { AtomicU32::new(0) }; Tallied::COUNT])
    }
}

impl Tally {
    pub(super) fn decided(&self, verdict: SessionVerdict, source: Source) {
        self.one(Tallied::Verdict(verdict));
        self.one(Tallied::Source(source));
    }

    pub(super) fn undecidable(&self, kind: FailureKind) {
        self.one(Tallied::Failure(kind));
    }

    pub(super) fn not_tried(&self) {
        self.one(Tallied::NotTried);
    }

    fn one(&self, what: Tallied) {
        if let Some(count) = self.0.get(what.place()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes what has gathered: each place that has anything, and how much.
    pub fn take(&self, mut counted: impl FnMut(usize, u32)) {
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
    fn everything_has_a_place_of_its_own() {
        let places: Vec<_> = Tallied::all().map(Tallied::place).collect();
        assert_eq!(places, (0..Tallied::COUNT).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_taken_is_taken_once() {
        let tally = Tally::default();
        for _ in 0..3 {
            tally.decided(SessionVerdict::Unbound, Source::Fresh);
        }
        tally.undecidable(FailureKind::Denied);
        let take = || {
            let mut taken = Vec::new();
            tally.take(|place, number| taken.push((place, number)));
            taken
        };
        let place = |what: Tallied| what.place();
        let expected = vec![
            (place(Tallied::Verdict(SessionVerdict::Unbound)), 3),
            (place(Tallied::Source(Source::Fresh)), 3),
            (place(Tallied::Failure(FailureKind::Denied)), 1),
        ];
        assert_eq!(take(), expected);
        assert_eq!(take(), []);
    }
}
