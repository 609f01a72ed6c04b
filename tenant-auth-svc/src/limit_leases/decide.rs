//! Decisions: all limits that apply to a request, or none.

use std::{
    sync::{Arc, MutexGuard},
    time::Instant,
};

use arrayvec::ArrayVec;

use super::{AppliedLimits, LimitDatabase, LimitLeases, applied::AppliedLimit, counts::LimitResult};
use crate::domain::{
    clock::{Moment, UnixMillis},
    key::KeyRecord,
    limit::{
        Costs, LimitDecision, LimitDenial, LimitError, LimitOutcome, LimitRule, MAX_LIMITS, OutagePolicy,
        counter::{CounterState, DecidedBy, LimitCheck, LimitCounter},
    },
};

/// What is done with an available cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Take {
    /// It is used.
    Use,
    /// It is set aside until a commit.
    SetAside,
}

/// What was set aside: the counter, the window and the cost. Without a window, it is admitted although nothing is held.
pub(super) type SetAside = Vec<(Arc<LimitCounter>, Option<UnixMillis>, u64)>;

/// A limit that applies to a request, locked.
struct Locked<'a> {
    applied: &'a AppliedLimit,
    state: MutexGuard<'a, CounterState>,
    cost: u64,
    check: LimitCheck,
}

/// The result of looking at all limits of a request at once.
pub(super) enum Attempt {
    /// It is decided.
    Decided(LimitOutcome, SetAside),
    /// The database has to be asked.
    Wait,
}

impl<S: LimitDatabase> LimitLeases<S> {
    /// See [`LimitEnforcer::take_now`](crate::domain::limit::LimitEnforcer::take_now).
    pub(super) fn take_at_once(&self, record: &KeyRecord, costs: &Costs) -> Option<LimitOutcome> {
        let now = Moment::now(&self.0.clock);
        let applied = self.cached_limits(record, now.monotonic)?;
        match self.attempt(&applied, costs, Take::Use, Some(DecidedBy::Lease), now) {
            Ok(Attempt::Decided(outcome, _)) => Some(outcome),
            Ok(Attempt::Wait) | Err(_) => None,
        }
    }

    /// Takes `costs`, and waits for the database if the leases do not suffice.
    pub(super) async fn take_or_wait(
        &self,
        record: &KeyRecord,
        costs: &Costs,
        take: Take,
        deadline: Instant,
    ) -> Result<(LimitOutcome, SetAside), LimitError> {
        let mut decided_by = Some(DecidedBy::Lease);
        let mut progress = self.0.progress.subscribe();
        loop {
            let applied = self.load_limits(record, deadline).await?;
            progress.borrow_and_update();
            let attempt = self.attempt(&applied, costs, take, decided_by, Moment::now(&self.0.clock))?;
            if let Attempt::Decided(outcome, set_aside) = attempt {
                return Ok((outcome, set_aside));
            }
            decided_by = Some(DecidedBy::Database);
            let waiting = Waiting::start(self, &applied, costs);
            let is_late = tokio::time::timeout_at(deadline.into(), progress.changed()).await.is_err();
            drop(waiting);
            if is_late {
                // There is no time left to wait: as if the database did not respond.
                let now = Moment::now(&self.0.clock);
                return match self.attempt(&applied, costs, take, None, now)? {
                    Attempt::Decided(outcome, set_aside) => Ok((outcome, set_aside)),
                    Attempt::Wait => Err(LimitError::Undecided { limit: String::new() }),
                };
            }
        }
    }

    /// Looks at all limits at once. Nothing is taken unless everything is. `decided_by` is `None` if it cannot wait.
    fn attempt(
        &self,
        applied: &AppliedLimits,
        costs: &Costs,
        take: Take,
        decided_by: Option<DecidedBy>,
        now: Moment,
    ) -> Result<Attempt, LimitError> {
        let mut locked = ArrayVec::<Locked<'_>, MAX_LIMITS>::new();
        for applied in &applied.limits {
            let Some(cost) = costs.iter().find(|cost| cost.metric == applied.limit.metric) else { continue };
            let mut state = applied.counter.lock();
            let check = state.check(cost.amount, now);
            let locked_limit = Locked { applied, state, cost: cost.amount, check };
            locked.try_push(locked_limit).map_err(|_| LimitError::TooManyLimits)?;
        }
        let decided_by = decided_by.filter(|_| !self.is_down());
        if decided_by.is_some() && locked.iter().any(|limit| limit.check == LimitCheck::Unknown) {
            return Ok(Attempt::Wait);
        }
        let without_database = if self.is_down() { DecidedBy::LocalShare } else { DecidedBy::Lease };
        self.conclude(locked, take, decided_by.unwrap_or(without_database), now)
    }

    fn conclude(
        &self,
        mut locked: ArrayVec<Locked<'_>, MAX_LIMITS>,
        take: Take,
        decided_by: DecidedBy,
        now: Moment,
    ) -> Result<Attempt, LimitError> {
        let denial = locked.iter().filter(|limit| limit.denies()).map(Locked::kind).max();
        let undecided = locked.iter().map(|limit| (limit, limit.applied)).find_map(|(limit, applied)| {
            let is_undecided = limit.check == LimitCheck::Unknown
                && !applied.limit.shadow
                && applied.limit.on_outage != OutagePolicy::Open;
            is_undecided.then_some(applied)
        });
        if let (None, Some(undecided)) = (denial, undecided) {
            for limit in &mut locked {
                if limit.state.becomes_due(now.monotonic) {
                    self.0.make_due(&limit.applied.counter);
                }
            }
            let limit = undecided.limit.name.as_str().to_owned();
            self.0.counts.count(LimitResult::Undecided, decided_by);
            return Err(LimitError::Undecided { limit });
        }
        let mut outcome =
            LimitOutcome { denial, limits: Vec::with_capacity(locked.len()), is_repeated: false };
        let mut set_aside = SetAside::new();
        for limit in &mut locked {
            let Locked { applied, state, cost, check } = limit;
            match (denial, *check, take) {
                (Some(_), _, _) | (None, LimitCheck::Exceeded, _) => {}
                (None, LimitCheck::Available, Take::Use) => state.take(*cost, now),
                (None, LimitCheck::Available, Take::SetAside) => {
                    let window = state.set_aside(*cost, now);
                    set_aside.push((Arc::clone(&applied.counter), Some(window), *cost));
                }
                (None, LimitCheck::Unknown, Take::Use) => state.admit_uncovered(*cost, now),
                // A repetition must not be counted again, so it is counted when it is committed.
                (None, LimitCheck::Unknown, Take::SetAside) => {
                    set_aside.push((Arc::clone(&applied.counter), None, *cost));
                }
            }
            if state.becomes_due(now.monotonic) {
                self.0.make_due(&applied.counter);
            }
            let decided_by = if *check == LimitCheck::Unknown && denial.is_none() {
                DecidedBy::OutagePolicy
            } else {
                decided_by
            };
            let is_exceeded = *check == LimitCheck::Exceeded;
            self.0
                .counts
                .count(LimitResult::of(is_exceeded, applied.limit.shadow, &applied.limit.rule), decided_by);
            outcome.limits.push(LimitDecision {
                limit: Arc::clone(&applied.limit),
                status: state.status(*cost, now),
                decided_by,
                is_exceeded,
            });
        }
        Ok(Attempt::Decided(outcome, set_aside))
    }
}

impl Locked<'_> {
    fn denies(&self) -> bool {
        self.check == LimitCheck::Exceeded && !self.applied.limit.shadow
    }

    fn kind(&self) -> LimitDenial {
        match self.applied.limit.rule {
            LimitRule::Quota(_) | LimitRule::Credits(_) => LimitDenial::Quota,
            LimitRule::Rate(_) => LimitDenial::Rate,
        }
    }
}

/// A caller that waits for the database to grant something.
struct Waiting<'a>(ArrayVec<(&'a AppliedLimit, u64), MAX_LIMITS>);

impl<'a> Waiting<'a> {
    fn start<S: LimitDatabase>(leases: &LimitLeases<S>, applied: &'a AppliedLimits, costs: &Costs) -> Self {
        let now = leases.0.clock.monotonic();
        let mut waiting = ArrayVec::new();
        for applied in &applied.limits {
            let Some(cost) = costs.iter().find(|cost| cost.metric == applied.limit.metric) else { continue };
            let mut state = applied.counter.lock();
            state.start_waiting(cost.amount);
            let is_due = state.becomes_due(now);
            drop(state);
            if is_due {
                leases.0.make_due(&applied.counter);
            }
            // As many as an attempt has locked.
            let _ = waiting.try_push((applied, cost.amount));
        }
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        for (applied, cost) in &self.0 {
            applied.counter.lock().stop_waiting(*cost);
        }
    }
}
