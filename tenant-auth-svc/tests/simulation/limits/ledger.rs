//! What replicas have admitted, and how much the limits permit.
//!
//! An admission counts in the window that its decision names. What is known here is a lower bound: an admission whose caller has
//! no answer is not in it.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use crate::history::{EventOrder, History};

/// What is counted together: the id of a tenant or a key, and the name of the limit.
pub(crate) type CounterId = (String, String);

/// A limit, as the database holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LimitRow {
    /// Whose limit it is: `plan`, `tenant` or `key`, and the name or id.
    pub(crate) subject: (String, String),
    pub(crate) version: i64,
    pub(crate) kind: String,
    pub(crate) amount: i64,
    pub(crate) period_ms: i64,
    pub(crate) burst: i64,
    pub(crate) refill_amount: i64,
    pub(crate) on_outage: String,
    pub(crate) is_shadow: bool,
}

impl LimitRow {
    /// The length of a bucket of a rolling window, in milliseconds; 0 for other kinds.
    pub(crate) fn bucket_ms(&self) -> i64 {
        if self.kind.starts_with("rolling:") { self.period_ms / 16 } else { 0 }
    }

    /// When the window that starts at a time ends.
    pub(crate) fn window_end(&self, start: i64) -> i64 {
        match self.kind.as_str() {
            "hour" => start + 3_600_000,
            "day" => start + 86_400_000,
            "credits" | "rate" => i64::MAX,
            _ => start + self.bucket_ms(),
        }
    }
}

/// The ledger of one counter.
#[derive(Debug)]
struct CounterLedger {
    /// The limit that applies.
    limit: History<Option<LimitRow>>,
    /// The event since which the counter counts: before that it was another one.
    counts_since: EventOrder,
    /// What was admitted in each window.
    admitted: BTreeMap<i64, i64>,
    /// When a rate admitted how much.
    flow: Vec<(Duration, i64)>,
    /// Credits that were added, or may have been.
    added: i64,
    /// What may be counted beyond what was admitted: the caller has no answer, or it was given back.
    uncertain: i64,
}

/// Everything that was admitted.
#[derive(Debug, Default)]
pub(crate) struct LimitLedger {
    counters: HashMap<CounterId, CounterLedger>,
    /// How often an hour may have begun.
    hours_begun: i64,
}

impl LimitLedger {
    /// Records the limits in the database after an event.
    pub(crate) fn record_limits(
        &mut self,
        order: EventOrder,
        at: Duration,
        limits: &HashMap<CounterId, LimitRow>,
    ) {
        for id in limits.keys() {
            self.counters.entry(id.clone()).or_insert_with(|| CounterLedger {
                limit: History::new(None),
                counts_since: 0,
                admitted: BTreeMap::new(),
                flow: Vec::new(),
                added: 0,
                uncertain: 0,
            });
        }
        for (id, counter) in &mut self.counters {
            let (before, now) = (counter.limit.last().clone(), limits.get(id).cloned());
            if before == now {
                continue;
            }
            counter.flow.clear();
            // With the limit of a tenant or a key, what is counted is deleted, and so it is with another kind.
            let is_forgotten = before.is_some_and(|before| {
                let kind = now.as_ref().map(|now| &now.kind);
                (before.subject.0 != "plan" && now.as_ref().is_none_or(|now| now.subject != before.subject))
                    || kind.is_some_and(|kind| *kind != before.kind)
            });
            if is_forgotten {
                counter.forget(order);
            }
            counter.limit.change_at(order, at, &now);
        }
    }

    /// The database is another one, so that what was counted before may be unknown.
    pub(crate) fn forget_all(&mut self, order: EventOrder) {
        self.counters.values_mut().for_each(|counter| counter.forget(order));
    }

    /// The clock was set: a rate is not checked across that.
    pub(crate) fn break_flow(&mut self) {
        self.counters.values_mut().for_each(|counter| counter.flow.clear());
    }

    /// Records how many hours may have begun since the start.
    pub(crate) fn record_hours(&mut self, begun: i64) {
        self.hours_begun = self.hours_begun.max(begun);
    }

    /// Records credits that may have been added.
    pub(crate) fn add_credits(&mut self, id: &CounterId, amount: i64) {
        if let Some(counter) = self.counters.get_mut(id) {
            counter.added += amount.max(0);
        }
    }

    /// The limit that applies now.
    pub(crate) fn current(&self, id: &CounterId) -> Option<&LimitRow> {
        self.counters.get(id)?.limit.last().as_ref()
    }

    /// The limits that a replica may assume, to which changes were reported as `was_reported` says. `None` is that none applies.
    pub(crate) fn believable(
        &self,
        id: &CounterId,
        was_reported: impl Fn(EventOrder) -> bool,
    ) -> Vec<Option<LimitRow>> {
        match self.counters.get(id) {
            Some(counter) => counter.limit.believable(was_reported, |_, _| false).cloned().collect(),
            None => vec![None],
        }
    }

    /// Whether a replica counts in the current counter, and not in one from before.
    pub(crate) fn is_counted(&self, id: &CounterId, was_reported: impl Fn(EventOrder) -> bool) -> bool {
        self.counters
            .get(id)
            .is_some_and(|counter| counter.counts_since == 0 || was_reported(counter.counts_since))
    }

    /// What is known to be admitted in a window.
    pub(crate) fn admitted(&self, id: &CounterId, window: i64) -> i64 {
        self.counters.get(id).and_then(|counter| counter.admitted.get(&window)).copied().unwrap_or_default()
    }

    /// All windows with something admitted.
    pub(crate) fn windows(&self) -> impl Iterator<Item = (&CounterId, i64)> {
        self.counters
            .iter()
            .flat_map(|(id, counter)| counter.admitted.keys().map(move |window| (id, *window)))
    }

    /// An amount may have been taken.
    pub(crate) fn add_uncertain(&mut self, id: &CounterId, amount: i64) {
        if let Some(counter) = self.counters.get_mut(id) {
            counter.uncertain += amount;
        }
    }

    /// The most that can be used of a counter; `None` if that is unknown.
    pub(crate) fn most_used(&self, id: &CounterId) -> Option<i64> {
        let counter = self.counters.get(id).filter(|counter| counter.counts_since == 0)?;
        Some(counter.admitted.values().sum::<i64>() + counter.uncertain)
    }

    /// Something that was admitted no longer counts.
    pub(crate) fn release(&mut self, id: &CounterId, window: i64, amount: i64) {
        let Some(counter) = self.counters.get_mut(id) else { return };
        if let Some(admitted) = counter.admitted.get_mut(&window) {
            *admitted = (*admitted - amount).max(0);
            counter.uncertain += amount;
        }
    }

    /// Adds an admission to a counter, and says what is wrong if that is more than any of the limits permits.
    pub(crate) fn admit(
        &mut self,
        id: &CounterId,
        (window, amount): (i64, i64),
        at: Duration,
        believed: &[Option<LimitRow>],
    ) -> Result<(), String> {
        let hours = self.hours_begun;
        let Some(counter) = self.counters.get_mut(id) else { return Ok(()) };
        *counter.admitted.entry(window).or_default() += amount;
        counter.flow.push((at, amount));
        let excess = believed.iter().flatten().map(|limit| counter.excess(limit, window, hours));
        match excess.min().unwrap_or_default() {
            ..=0 => Ok(()),
            excess => {
                Err(format!("admitted {excess} more than the limit {id:?} permits in {window}: {counter:?}"))
            }
        }
    }
}

impl CounterLedger {
    fn forget(&mut self, order: EventOrder) {
        self.counts_since = order;
        self.admitted.clear();
        self.flow.clear();
        self.added = 0;
    }

    /// How much more was admitted in a window than a limit permits.
    fn excess(&self, limit: &LimitRow, window: i64, hours: i64) -> i64 {
        let total =
            |from: i64, to: i64| self.admitted.range(from..=to).map(|(_, amount)| amount).sum::<i64>();
        match limit.kind.as_str() {
            "rate" => self.excess_flow(limit),
            "credits" => {
                let permitted =
                    limit.amount.max(self.largest_initial()) + self.added + hours * limit.refill_amount;
                total(window, window) - permitted
            }
            kind if kind.starts_with("rolling:") => {
                // An interval of the window's length touches 17 buckets.
                let length = 16 * limit.bucket_ms();
                let ends = self.admitted.range(window..=window + length).map(|(end, _)| *end);
                ends.map(|end| total(end - length, end)).max().unwrap_or_default() - limit.amount
            }
            _ => total(window, window) - limit.amount,
        }
    }

    /// Credits keep what they began with.
    fn largest_initial(&self) -> i64 {
        let all = self.limit.all().flatten().filter(|limit| limit.kind == "credits");
        all.map(|limit| limit.amount).max().unwrap_or_default()
    }

    /// The same for a rate, in every interval that ends now.
    fn excess_flow(&self, limit: &LimitRow) -> i64 {
        let Some((now, _)) = self.flow.last() else { return 0 };
        let mut sum = 0;
        let excess = self.flow.iter().rev().map(|(at, amount)| {
            sum += amount;
            let inflow = i64::try_from((*now - *at).as_millis()).unwrap() * limit.amount / limit.period_ms;
            // Fractions of a token round up.
            sum - limit.burst - inflow - 1
        });
        excess.max().unwrap_or_default()
    }
}
