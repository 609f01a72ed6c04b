//! One limit in use: decides from what this replica holds of it.

mod planning;
mod status;
mod use_rate;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use self::use_rate::UseRate;
pub use self::{
    planning::Planned,
    status::{DecidedBy, LimitStatus},
};
use super::{CounterKey, Limit, LimitRule, SeenCounter, held::HeldLease};
use crate::domain::clock::{Moment, UnixMillis};

/// A limit in use.
#[derive(Debug)]
pub struct LimitCounter {
    /// What is counted.
    pub key: CounterKey,
    state: Mutex<CounterState>,
}

/// What can be said about a cost without the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitCheck {
    /// The lease has enough.
    Available,
    /// The limit is exceeded.
    Exceeded,
    /// The database has to be asked.
    Unknown,
}

/// The state of a counter, locked.
#[derive(Debug)]
pub struct CounterState {
    limit: Arc<Limit>,
    /// The window in which callers are served.
    current: Option<HeldLease>,
    /// The next window of the calendar, held in advance.
    next: Option<HeldLease>,
    /// Windows that have ended, to be reported.
    ended: Vec<HeldLease>,
    /// What the database said last.
    view: Option<DatabaseView>,
    refusal: Option<Refusal>,
    /// How many callers are waiting, and for how much.
    waiting_callers: usize,
    waiting: u64,
    /// What was admitted beyond the lease because the database did not respond.
    uncovered: u64,
    last_exchange: Duration,
    use_rate: UseRate,
    /// Whether another replica lacks what this one holds.
    is_recalled: bool,
    /// Whether the database may have been restored from a backup: it is shown what this replica has seen.
    must_report: bool,
    /// Whether something that was set aside is used since the last exchange.
    has_settled: bool,
    /// Whether the exchange has the counter on its list.
    is_listed: bool,
    /// Whether the counter waits for the next exchange.
    is_due: bool,
}

/// What the database said about a counter.
#[derive(Clone, Copy, Debug)]
struct DatabaseView {
    /// When, by the monotonic clock.
    at: Duration,
    /// When, by the database's clock.
    now: UnixMillis,
    window_end: UnixMillis,
    seen: SeenCounter,
    left: i64,
    oldest_bucket: Option<UnixMillis>,
    credited: i64,
}

/// The database has granted less than was needed.
#[derive(Clone, Copy, Debug)]
struct Refusal {
    /// Until then it is not asked again.
    until: Duration,
    /// How long that was: it doubles each time.
    pause: Duration,
}

impl LimitCounter {
    /// Creates a counter that holds nothing.
    #[must_use]
    pub fn new(key: CounterKey, limit: Arc<Limit>) -> Self {
        let state = CounterState {
            limit,
            current: None,
            next: None,
            ended: Vec::new(),
            view: None,
            refusal: None,
            waiting_callers: 0,
            waiting: 0,
            uncovered: 0,
            last_exchange: Duration::ZERO,
            use_rate: UseRate::default(),
            is_recalled: false,
            must_report: false,
            has_settled: false,
            is_listed: false,
            is_due: false,
        };
        Self { key, state: Mutex::new(state) }
    }

    /// Locks the state. Several counters are locked in the order of their names.
    pub fn lock(&self) -> MutexGuard<'_, CounterState> {
        // Each modification leaves the value consistent, so a poisoned lock is usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CounterState {
    /// The limit.
    #[must_use]
    pub fn limit(&self) -> &Arc<Limit> {
        &self.limit
    }

    /// Replaces the limit by a newer version of the same kind. What is held was granted from the old one: it is given back
    /// before anything is taken from the new one.
    pub fn set_limit(&mut self, limit: &Arc<Limit>) {
        if limit.version != self.limit.version {
            self.limit = Arc::clone(limit);
            // What was counted may have been forgotten with the former limit.
            self.view = None;
            self.current.iter_mut().chain(&mut self.next).for_each(HeldLease::stop);
            self.refusal = None;
        }
    }

    /// Another replica lacks what is held here, or the limit has changed. Returns whether the counter becomes due.
    pub fn recall(&mut self) -> bool {
        self.is_recalled = true;
        self.refusal = None;
        !std::mem::replace(&mut self.is_due, true)
    }

    /// The database may have been restored from a backup. Returns whether the counter becomes due.
    pub fn report_again(&mut self) -> bool {
        self.must_report = true;
        self.refusal = None;
        !std::mem::replace(&mut self.is_due, true)
    }

    /// Checks whether `cost` can be taken.
    pub fn check(&mut self, cost: u64, now: Moment) -> LimitCheck {
        self.end_windows(now);
        let held = self.current.as_ref().map_or(0, |held| held.remaining);
        if held >= cost {
            LimitCheck::Available
        } else if self.is_refused(now.monotonic) || (cost > self.capacity() && self.view.is_some()) {
            LimitCheck::Exceeded
        } else {
            LimitCheck::Unknown
        }
    }

    /// Takes an available cost.
    pub fn take(&mut self, cost: u64, now: Moment) {
        if let Some(held) = &mut self.current {
            held.remaining = held.remaining.saturating_sub(cost);
            held.used += cost;
            held.last_use = now.monotonic;
        }
        self.use_rate.add(cost);
    }

    /// Sets an available cost aside until an exchange has an outcome. Returns the window.
    pub fn set_aside(&mut self, cost: u64, now: Moment) -> UnixMillis {
        self.use_rate.add(cost);
        let Some(held) = &mut self.current else { return UnixMillis(0) };
        held.remaining = held.remaining.saturating_sub(cost);
        held.pending += cost;
        held.last_use = now.monotonic;
        held.window_start
    }

    /// What was set aside in a window is used, or can be taken again; if the window has ended, it is given back.
    pub fn resolve(&mut self, window: UnixMillis, cost: u64, is_used: bool) {
        // Soon reported as used, so that it does not count as leased, too.
        self.has_settled |= is_used;
        let is_meant = |held: &&mut HeldLease| held.window_start == window && held.pending >= cost;
        if let Some(held) = self.current.as_mut().filter(is_meant) {
            held.pending -= cost;
            *if is_used { &mut held.used } else { &mut held.remaining } += cost;
        } else if let Some(held) = self.ended.iter_mut().chain(&mut self.next).find(is_meant) {
            held.pending -= cost;
            *if is_used { &mut held.used } else { &mut held.returning } += cost;
        }
    }

    /// Notes what a caller waits for, until [`Self::stop_waiting`].
    pub fn start_waiting(&mut self, cost: u64) {
        self.waiting_callers += 1;
        // What can never be taken is not asked for.
        if cost <= self.capacity() {
            self.waiting += cost;
        }
    }

    /// The caller no longer waits.
    pub fn stop_waiting(&mut self, cost: u64) {
        self.waiting_callers = self.waiting_callers.saturating_sub(1);
        if cost <= self.capacity() {
            self.waiting = self.waiting.saturating_sub(cost);
        }
        if self.waiting_callers == 0 {
            // The capacity may have changed meanwhile.
            self.waiting = 0;
        }
    }

    /// Notes what was admitted without a lease: it is counted when the database responds again.
    pub fn admit_uncovered(&mut self, cost: u64, now: Moment) {
        self.add_uncovered(cost);
        let held = self.current.as_mut();
        if let Some(held) = held {
            held.last_use = now.monotonic;
        }
    }

    /// Notes what was admitted without a lease, and committed since.
    pub fn add_uncovered(&mut self, cost: u64) {
        self.uncovered = self.uncovered.saturating_add(cost);
    }

    /// Whether the exchange has to look at the counter now. `true` once per exchange.
    pub fn becomes_due(&mut self, now: Duration) -> bool {
        if self.is_due {
            return false;
        }
        let remaining = self.current.as_ref().map_or(0, |held| held.remaining);
        let is_refused = self.is_refused(now);
        self.is_due =
            !self.is_listed || !is_refused && (self.waiting_callers > 0 || self.wanted(remaining, now) > 0);
        self.is_due
    }

    /// The most that a request can ever take.
    fn capacity(&self) -> u64 {
        match &self.limit.rule {
            LimitRule::Quota(quota) => quota.amount.get(),
            LimitRule::Rate(rate) => rate.burst.get(),
            LimitRule::Credits(_) => u64::MAX,
        }
    }

    fn is_refused(&self, now: Duration) -> bool {
        self.refusal.is_some_and(|refusal| now < refusal.until)
    }

    /// Nothing more is taken from a window. Each window is reported once in an exchange.
    fn end(&mut self, mut held: HeldLease) {
        held.stop();
        match self.ended.iter_mut().find(|ended| ended.window_start == held.window_start) {
            Some(ended) => ended.add(&held),
            None if held.is_empty() => {}
            None => self.ended.push(held),
        }
    }

    /// Moves a window that has ended out of the way. A rate has one window, in which a lease can end.
    fn end_windows(&mut self, now: Moment) {
        let is_rate = matches!(self.limit.rule, LimitRule::Rate(_));
        if let Some(held) = self.current.as_mut().filter(|held| held.deadline.has_passed(now)) {
            held.stop();
            if is_rate {
                return;
            }
            self.refusal = None;
            if let Some(held) = self.current.take() {
                self.end(held);
            }
        }
        if self.current.is_none() {
            self.current = self.next.take_if(|next| next.usable_from <= now.monotonic);
            // A window can begin and end while nobody asks.
            if let Some(held) = self.current.take_if(|held| held.deadline.has_passed(now)) {
                self.end(held);
            }
        }
    }
}
