//! What a counter asks of the database, and what it does with the response.

use std::time::Duration;

use super::{CounterState, DatabaseView, LimitCounter, Refusal};
use crate::domain::{
    clock::{Moment, UnixMillis},
    limit::{
        LeaseGrant, LeaseRequest, LimitRule, OutagePolicy, QuotaWindow,
        held::{Deadline, HeldLease},
    },
};

/// A lease is meant to last this long at the present rate of use.
const HORIZON: Duration = Duration::from_secs(2);
/// What is kept when another replica lacks something: what is used within this time.
const RECALL_HORIZON: Duration = Duration::from_millis(500);
/// A lease is at least this part of a quota or of a bucket, so that rarely used limits do not cost an exchange per request.
const MIN_LEASE_PARTS: u64 = 256;
const MIN_RATE_LEASE_PARTS: u64 = 8;
/// With [`OutagePolicy::LocalShare`], a lease is at least this part of what is left.
const LOCAL_SHARE_PARTS: u64 = 8;
/// What was used is reported after this time at the latest.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// The first and the longest pause after a refusal.
const REFUSAL_PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(8));
/// The same for rates: something flows in all the time.
const RATE_REFUSAL_PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));
/// How long a rate's lease may be used without an exchange. Its part of the bucket is not filled meanwhile.
const RATE_LEASE_TTL: Duration = Duration::from_secs(5);
/// After this time without an exchange, the database regards the holder of a quota's lease as gone. Nobody else may spend the
/// lease even then.
const LEASE_TTL: Duration = Duration::from_secs(10 * 60);
/// An unused lease is given back after this time, before the database regards its holder as gone.
const IDLE_TIME: Duration = Duration::from_secs(5 * 60);
/// An unused rate's lease is given back after this time: it keeps the bucket from filling.
const RATE_IDLE_TIME: Duration = Duration::from_secs(1);

/// What a counter asks for in one exchange.
#[derive(Debug, Default)]
pub struct Planned {
    /// One request for each window.
    pub requests: Vec<LeaseRequest>,
    /// Whether nothing is held or waited for: the counter need not be looked at until it is used again.
    pub is_idle: bool,
}

impl LimitCounter {
    /// Returns what to ask for now, in the exchange with number `seq` of this replica; with `is_stopping`, everything is given
    /// back. What is reported and given back is gone from the counter: if the outcome of the exchange
    /// never becomes known, it stays counted in the database.
    #[must_use]
    pub fn plan(&self, now: Moment, seq: i64, is_stopping: bool) -> Planned {
        let mut guard = self.lock();
        let state = &mut *guard;
        state.end_windows(now);
        state.is_due = false;
        if is_stopping {
            state.give_all_back();
        }
        let mut requests = Vec::new();
        if let Some(current) = &mut state.current {
            // A window that has ended by a wrong clock. An exchange must not name it twice.
            let window = current.window_start;
            state
                .ended
                .extract_if(.., |held| held.window_start == window)
                .for_each(|held| current.add(&held));
        }
        let mut ended = std::mem::take(&mut state.ended);
        for held in ended.iter_mut().filter(|held| held.returning > 0 || held.used > 0) {
            requests.push(self.request(state, Some(held), (0, 0, 0), (now, seq)));
        }
        ended.retain(|held| held.pending > 0);
        state.ended = ended;
        let mut current = state.current.take();
        // Without a lease, the database determines the window. It may still be in one that has ended for this replica, and an
        // exchange must not name a window twice. A replica that is stopping would hold what it asks for until it is gone.
        let may_ask = !is_stopping && (current.is_some() || requests.is_empty());
        if let Some(amounts) = may_ask.then(|| state.amounts(current.as_ref(), now)).flatten() {
            requests.push(self.request(state, current.as_mut(), amounts, (now, seq)));
        }
        state.current = current;
        if let Some(window_start) = state.window_to_hold_in_advance(now) {
            let want = state.local_share();
            let mut request = self.request(state, None, (0, 0, want), (now, seq));
            request.window_start = Some(window_start);
            requests.push(request);
        }
        let is_idle = requests.is_empty()
            && state.waiting_callers == 0
            && state.ended.is_empty()
            && state.next.is_none_or(|next| next.is_empty())
            && state.current.is_none_or(|held| held.is_empty());
        if !requests.is_empty() {
            state.last_exchange = now.monotonic;
        }
        state.is_listed = !is_idle;
        Planned { requests, is_idle }
    }

    fn request(
        &self,
        state: &mut CounterState,
        held: Option<&mut HeldLease>,
        (returned, need, want): (u64, u64, u64),
        (now, seq): (Moment, i64),
    ) -> LeaseRequest {
        let mut request = LeaseRequest {
            counter: self.key.clone(),
            limit: (state.limit.subject.clone(), state.limit.version),
            window_start: None,
            used: 0,
            returned,
            held: 0,
            idle: Duration::ZERO,
            need,
            want,
            seq,
            seen: state.view.map(|view| view.seen),
            ttl: if state.is_rate() { RATE_LEASE_TTL } else { LEASE_TTL },
        };
        if let Some(held) = held {
            held.remaining = held.remaining.saturating_sub(returned);
            request.returned += std::mem::take(&mut held.returning);
            request.window_start = Some(held.window_start);
            request.used = std::mem::take(&mut held.used);
            request.held = held.remaining + held.pending;
            request.idle = now.monotonic.saturating_sub(held.last_use);
        }
        request
    }

    /// Applies the response to a request. `asked` is from before the request was sent, `database_now` the database's clock in
    /// between. Returns whether this replica knows the limit as it is in the database.
    pub fn apply(
        &self,
        request: &LeaseRequest,
        grant: Option<&LeaseGrant>,
        (asked, received): (Moment, Moment),
        database_now: UnixMillis,
    ) -> bool {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(grant) = grant else {
            // It may be about the next window, and what is held of the current one is still counted.
            state.current.take_if(|held| request.window_start == Some(held.window_start));
            return false;
        };
        let left = grant.window_end.since(database_now);
        let deadline = match state.limit.rule {
            LimitRule::Quota(_) => Deadline::after(asked, left),
            LimitRule::Credits(_) => Deadline::NEVER,
            LimitRule::Rate(_) => Deadline::after(asked, RATE_LEASE_TTL),
        };
        let mut granted = HeldLease::empty(grant.seen.window_start, received.monotonic, deadline);
        granted.remaining = grant.granted;
        let is_in_advance = grant.seen.window_start > database_now;
        if is_in_advance {
            granted.usable_from =
                received.monotonic.saturating_add(grant.seen.window_start.since(database_now));
            state.hold_in_advance(granted);
        } else if let Some(current) =
            state.current.as_mut().filter(|held| held.window_start == grant.seen.window_start)
        {
            current.remaining += grant.granted;
            current.deadline = deadline;
        } else if state.current.is_none() && request.window_start.is_none() {
            state.current = Some(granted);
        } else {
            state.end(granted);
        }
        if !is_in_advance && request.need + request.want + request.held > 0 {
            state.view = Some(DatabaseView {
                at: received.monotonic,
                now: database_now,
                window_end: grant.window_end,
                seen: grant.seen,
                left: grant.left,
                oldest_bucket: grant.oldest_bucket,
                credited: grant.credited,
            });
        }
        if grant.is_current && request.need > 0 {
            state.note_refusal(request.need - grant.granted.min(request.need), left, received.monotonic);
        }
        state.cover();
        grant.is_current
    }
}

impl CounterState {
    /// Holds a part of a window that has not begun. If callers are served in it already, the clock of the database was set back:
    /// they are served in the window that the database names next.
    fn hold_in_advance(&mut self, granted: HeldLease) {
        if let Some(mut current) = self.current.take_if(|held| held.window_start == granted.window_start) {
            current.add(&granted);
            self.end(current);
            (self.view, self.refusal) = (None, None);
        } else if self.next.is_none() {
            self.next = Some(granted);
        } else {
            self.end(granted);
        }
    }

    fn is_rate(&self) -> bool {
        matches!(self.limit.rule, LimitRule::Rate(_))
    }

    /// The replica is stopping.
    fn give_all_back(&mut self) {
        for held in self.current.take().into_iter().chain(self.next.take()) {
            self.end(held);
        }
        (self.waiting, self.waiting_callers, self.uncovered) = (0, 0, 0);
    }

    /// What to return, what is needed and what is wanted of the current window; `None` if there is nothing to say.
    fn amounts(&mut self, current: Option<&HeldLease>, now: Moment) -> Option<(u64, u64, u64)> {
        let remaining = current.map_or(0, |held| held.remaining);
        let demand = self.waiting.saturating_add(self.uncovered);
        let is_refused = self.is_refused(now.monotonic);
        let need = if is_refused { 0 } else { demand.saturating_sub(remaining) };
        let since_exchange = now.monotonic.saturating_sub(self.last_exchange);
        let since_use = current.map_or(Duration::ZERO, |held| now.monotonic.saturating_sub(held.last_use));
        let returned = if std::mem::take(&mut self.is_recalled) {
            let kept = demand + self.use_rate.expected_within(RECALL_HORIZON, now.monotonic);
            remaining.saturating_sub(kept)
        } else if since_use >= if self.is_rate() { RATE_IDLE_TIME } else { IDLE_TIME } {
            remaining
        } else {
            0
        };
        let mut want = if is_refused || returned > 0 { 0 } else { self.wanted(remaining, now.monotonic) };
        if self.view.is_none() && self.waiting_callers > 0 && need + want == 0 {
            // A caller is shown the state of the limit even if nothing can be taken.
            want = 1;
        }
        if std::mem::take(&mut self.must_report) && self.view.is_some() {
            return Some((returned, need, want));
        }
        let interval = if self.is_rate() { RATE_LEASE_TTL / 3 } else { REPORT_INTERVAL };
        let has_report = current.is_some_and(|held| held.used > 0 || (self.is_rate() && held.remaining > 0));
        let is_stopped = current.is_some_and(|held| held.returning > 0);
        let has_news = std::mem::take(&mut self.has_settled) && has_report;
        let is_report_due = is_stopped || has_news || has_report && since_exchange >= interval;
        (need + want + returned > 0 || is_report_due).then_some((returned, need, want))
    }

    /// What is wanted in addition to what is held; zero as long as at least half of the target is held.
    pub(super) fn wanted(&mut self, remaining: u64, now: Duration) -> u64 {
        let target = self.use_rate.expected_within(HORIZON, now).max(self.smallest_lease());
        // The database grants at most a quarter of what is left.
        let available = self.view.map_or(u64::MAX, |view| u64::try_from(view.left).unwrap_or_default() / 4);
        if remaining >= target.div_ceil(2) { 0 } else { (target - remaining).min(available) }
    }

    fn smallest_lease(&self) -> u64 {
        let known = self.view.map_or(u64::MAX, |view| u64::try_from(view.left).unwrap_or_default());
        match &self.limit.rule {
            LimitRule::Rate(rate) => rate.burst.get() / MIN_RATE_LEASE_PARTS,
            LimitRule::Quota(_) | LimitRule::Credits(_)
                if self.limit.on_outage == OutagePolicy::LocalShare =>
            {
                self.local_share()
            }
            LimitRule::Quota(quota) => quota.amount.get().min(known) / MIN_LEASE_PARTS,
            LimitRule::Credits(credits) => {
                if known == u64::MAX {
                    credits.initial.get() / MIN_LEASE_PARTS
                } else {
                    known / MIN_LEASE_PARTS
                }
            }
        }
    }

    fn local_share(&self) -> u64 {
        let known = self.view.map(|view| u64::try_from(view.left).unwrap_or_default());
        let amount = match &self.limit.rule {
            LimitRule::Quota(quota) => quota.amount.get(),
            LimitRule::Credits(credits) => credits.initial.get(),
            LimitRule::Rate(rate) => rate.burst.get(),
        };
        known.unwrap_or(amount) / LOCAL_SHARE_PARTS
    }

    /// The next window of the calendar, if a part of it is to be held before it begins.
    fn window_to_hold_in_advance(&self, now: Moment) -> Option<UnixMillis> {
        let LimitRule::Quota(quota) = &self.limit.rule else { return None };
        let is_wanted = self.limit.on_outage == OutagePolicy::LocalShare
            && matches!(quota.window, QuotaWindow::Calendar(_))
            && self.next.is_none();
        let held = self.current.filter(|held| now.monotonic.saturating_sub(held.last_use) < LEASE_TTL)?;
        self.view
            .filter(|view| is_wanted && view.seen.window_start == held.window_start)
            .map(|view| view.window_end)
    }

    /// `missing` of what was needed was not granted; the window ends after `left`.
    fn note_refusal(&mut self, missing: u64, left: Duration, now: Duration) {
        if missing == 0 {
            self.refusal = None;
            return;
        }
        let (first, longest) = if self.is_rate() { RATE_REFUSAL_PAUSES } else { REFUSAL_PAUSES };
        let pause = self.refusal.map_or(first, |refusal| (refusal.pause * 2).min(longest));
        self.refusal = Some(Refusal { until: now.saturating_add(pause.min(left)), pause });
    }

    /// Counts what was admitted without a lease. If nothing is left, it stays uncounted.
    fn cover(&mut self) {
        if let Some(held) = &mut self.current {
            let covered = self.uncovered.min(held.remaining);
            held.remaining -= covered;
            held.used += covered;
            self.uncovered -= covered;
        }
        if self.refusal.is_some() {
            self.uncovered = 0;
        }
    }
}
