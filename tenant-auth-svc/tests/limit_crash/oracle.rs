//! Compares what clients know with the limits, and with what the database has stored. Every line is an error.

mod accounts;
mod holdings;
mod intervals;
mod once;
mod windows;

use std::{collections::BTreeMap, time::Duration};

use self::accounts::accounts;
use crate::{
    client_log::Entry,
    cluster::Crash,
    drain::Drained,
    population::{CounterId, Kind, Tenant},
    stored::Stored,
};

/// Everything that is known at the end.
#[derive(Clone, Debug)]
pub(crate) struct Evidence {
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) crashes: Vec<Crash>,
    /// When the clock of the database went ahead, since the start of the test.
    pub(crate) jumped: Option<Duration>,
    /// What nothing was left of after the traffic, and what was stored then.
    pub(crate) drained: Vec<Drained>,
    pub(crate) stored_when_drained: Stored,
    /// What is stored after all leases and reservations have ended.
    pub(crate) stored: Stored,
}

/// The sums of the limits of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) counters: usize,
    /// Windows in which something was taken. A rate has none.
    pub(crate) windows: usize,
    pub(crate) admitted: i64,
    /// The sum over the windows.
    pub(crate) limit: i64,
    pub(crate) over_admitted: i64,
    /// Answers to requests without an id that were lost: what they would have taken.
    pub(crate) unknown: i64,
    /// What is counted, and nobody knows to be admitted.
    pub(crate) unaccounted: i64,
    /// What killed replicas can have held at most.
    pub(crate) bound: i64,
    /// The most of both for one counter.
    pub(crate) most_unaccounted: (i64, i64),
}

#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) errors: Vec<String>,
    pub(crate) figures: BTreeMap<Kind, Figures>,
}

impl Findings {
    fn add(&mut self, kind: Kind, more: Figures) {
        let sums = self.figures.entry(kind).or_default();
        *sums = Figures {
            counters: sums.counters + more.counters,
            windows: sums.windows + more.windows,
            admitted: sums.admitted + more.admitted,
            limit: sums.limit + more.limit,
            over_admitted: sums.over_admitted + more.over_admitted,
            unknown: sums.unknown + more.unknown,
            unaccounted: sums.unaccounted + more.unaccounted,
            bound: sums.bound + more.bound,
            most_unaccounted: sums.most_unaccounted.max(more.most_unaccounted),
        };
    }

    fn check(&mut self, is_right: bool, describe: impl FnOnce() -> String) {
        if !is_right {
            self.errors.push(describe());
        }
    }
}

impl Evidence {
    /// Returns everything that is wrong, and the sums.
    pub(crate) fn check(&self) -> Findings {
        let mut findings = Findings::default();
        once::check(self, &mut findings);
        for (id, account) in &accounts(self) {
            windows::check(self, (id, account), &mut findings);
            intervals::check(self, (id, account), &mut findings);
        }
        for drained in &self.drained {
            windows::check_drained(self, drained, &mut findings);
        }
        findings
    }

    /// The time by the database's clock, as far as intervals are concerned.
    fn by_database(&self, at: Duration) -> Duration {
        if self.jumped.is_some_and(|jumped| at >= jumped) { at + crate::cluster::JUMP } else { at }
    }

    fn spec_of(&self, id: &CounterId) -> &crate::population::LimitSpec {
        let specs =
            self.tenants.iter().flat_map(|tenant| tenant.limits.iter().map(move |limit| (tenant, limit)));
        let found = specs.into_iter().find(|(tenant, limit)| limit.counter(tenant) == *id);
        found.expect("a counter of this test").1
    }
}
