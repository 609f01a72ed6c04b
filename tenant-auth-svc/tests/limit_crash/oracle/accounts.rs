//! What clients know of each counter.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use super::Evidence;
use crate::{
    client_log::{Attempt, Call, Entry, Outcome},
    population::{CounterId, Kind, LimitSpec},
    stored::ReservedLimit,
};

/// The window of what has none.
const NO_WINDOW: i64 = 0;

/// Something that was admitted between two times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admission {
    pub(super) sent: Duration,
    pub(super) ended: Duration,
    pub(super) amount: i64,
}

#[derive(Debug)]
pub(super) struct Account<'a> {
    pub(super) limit: &'a LimitSpec,
    /// Admitted, by the start of the window.
    pub(super) admitted: BTreeMap<i64, i64>,
    /// Admitted in a window that is not known.
    pub(super) admitted_anywhere: i64,
    /// What requests whose response was lost would have taken.
    pub(super) unknown: i64,
    pub(super) admissions: Vec<Admission>,
    /// Every attempt to take something.
    pub(super) attempts: Vec<(Attempt, i64)>,
}

impl Account<'_> {
    /// Everything that is known to be admitted.
    pub(super) fn total(&self) -> i64 {
        self.admitted.values().sum::<i64>() + self.admitted_anywhere
    }

    fn admit(&mut self, window: Option<i64>, amount: i64, entry: &Entry) {
        match window {
            Some(window) => *self.admitted.entry(window).or_default() += amount,
            None => self.admitted_anywhere += amount,
        }
        self.admissions.push(Admission { sent: entry.sent(), ended: entry.ended(), amount });
    }
}

pub(super) fn accounts(evidence: &Evidence) -> HashMap<CounterId, Account<'_>> {
    let mut accounts = HashMap::new();
    for entry in &evidence.entries {
        let tenant = &evidence.tenants[entry.tenant];
        for (metric, cost) in &entry.costs {
            for limit in tenant.limits_of(entry.key, metric) {
                let account = accounts.entry(limit.counter(tenant)).or_insert_with(|| Account {
                    limit,
                    admitted: BTreeMap::new(),
                    admitted_anywhere: 0,
                    unknown: 0,
                    admissions: Vec::new(),
                    attempts: Vec::new(),
                });
                account.attempts.extend(entry.attempts.iter().map(|attempt| (*attempt, *cost)));
                count(evidence, account, entry, *cost);
            }
        }
    }
    accounts
}

fn count(evidence: &Evidence, account: &mut Account<'_>, entry: &Entry, cost: i64) {
    let has_windows = account.limit.window_millis().is_some();
    let anywhere = if has_windows { None } else { Some(NO_WINDOW) };
    match (&entry.call, &entry.outcome) {
        (Call::ConsumeAgain(_), _) => {}
        (Call::Reserve(id), _) => {
            let rows = evidence.stored.reservations.get(id).into_iter().flatten();
            for row in rows.filter(|row| row.name == account.limit.name) {
                account.admit(Some(row.window_start), kept(account.limit, row), entry);
            }
        }
        (Call::Consume | Call::ConsumeOnce(_), Outcome::Admitted(limits)) => {
            let decision = limits.iter().find(|(name, _)| name == account.limit.name);
            account.admit(decision.and_then(|(_, window)| *window).or(anywhere), cost, entry);
        }
        (Call::ConsumeOnce(_), Outcome::AlreadyTaken) => account.admit(anywhere, cost, entry),
        // An attempt that the client had given up was committed after another one was denied.
        (Call::ConsumeOnce(id), _) if evidence.stored.consumed.contains(id) => {
            account.admit(anywhere, cost, entry)
        }
        (Call::Consume, Outcome::Unknown) => account.unknown += cost,
        (Call::Consume | Call::ConsumeOnce(_), _) => {}
    }
}

/// What a reservation counts as in the end. Of a rate, nothing is given back.
fn kept(limit: &LimitSpec, row: &ReservedLimit) -> i64 {
    if limit.kind == Kind::Rate { row.amount } else { row.charged }
}
