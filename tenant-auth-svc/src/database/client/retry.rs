//! Retries a failed call once, within its deadline and a retry budget.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant},
};

use crate::{
    database::engine::{Engine, Rows, Statement, Transaction, TransactionResult, first_failure},
    domain::{
        jitter,
        store::{Call, FailureKind, LaneAttempts, LaneTimeouts, Operation, StoreError},
    },
    instruments::counts::Counter,
};

/// A call that waits for less than this, and less than an attempt, says nothing about the database when it times out.
const MIN_CONCLUSIVE_WAIT: Duration = Duration::from_secs(1);
/// Maximum delay before the second attempt; randomized from zero up, so that callers spread out.
const MAX_RETRY_DELAY: Duration = Duration::from_millis(50);
/// One call deposits a tenth of a retry, so retries add at most 10 % to the load of a failing database.
const TOKENS_PER_CALL: i64 = 1;
const TOKENS_PER_RETRY: i64 = 10;
/// Up to ten retries in a row, for the rare failure of a quiet service.
const MAX_RETRY_TOKENS: i64 = 100;

/// An engine whose calls are retried once if that may help.
///
/// Writes are retried too: every transaction given to an [`Engine`] is safe to repeat. A write that timed out is not
/// retried: it may still be in flight, and a second one next to it can wedge a server.
#[derive(Debug)]
pub struct Retrying<E> {
    inner: E,
    lookup_timeouts: LaneTimeouts,
    listing_timeouts: LaneTimeouts,
    /// Separate budgets of reads and of writes: failing calls of one kind must not use up the retries of the other.
    budgets: [AtomicI64; Operation::ALL.len()],
    retries: Counter,
}

impl<E: Engine> Retrying<E> {
    /// Retries calls of `inner`; `lookups` are the timeouts of a validation's reads. If they are longer than those of
    /// a listing, they apply to listings too.
    pub fn new(inner: E, lookups: LaneTimeouts) -> Self {
        let listings = LaneTimeouts::LISTING.max(lookups);
        let budgets = Operation::ALL.map(|_| AtomicI64::new(MAX_RETRY_TOKENS));
        Self {
            inner,
            lookup_timeouts: lookups,
            listing_timeouts: listings,
            budgets,
            retries: Counter::default(),
        }
    }

    /// How many calls were retried.
    pub fn retries(&self) -> u64 {
        self.retries.get()
    }

    /// The inner engine.
    pub fn inner(&self) -> &E {
        &self.inner
    }

    async fn read(&self, call: Call, statement: Statement) -> Result<Rows, StoreError> {
        let timeouts = match call.lane.policy().attempts {
            LaneAttempts::Lookup => self.lookup_timeouts,
            LaneAttempts::Listing => self.listing_timeouts,
            LaneAttempts::Single => return self.inner.query(call, statement).await,
        };
        let now = Instant::now();
        let has_shortened_deadline = call.deadline < now + timeouts.attempt.min(MIN_CONCLUSIVE_WAIT);
        let last = Call { deadline: call.deadline.min(now + timeouts.total), has_shortened_deadline, ..call };
        let first = Call { deadline: last.deadline.min(now + timeouts.attempt), ..last };
        self.deposit(Operation::Read);
        match self.inner.query(first, statement.clone()).await {
            Err(error) if error.kind.is_transient() && self.try_withdraw(Operation::Read, last) => {
                tokio::time::sleep(retry_delay()).await;
                self.retries.increment();
                self.inner.query(last, statement).await
            }
            outcome => outcome,
        }
    }

    /// Sends each failed transaction again, after the others of its call have run.
    async fn write(&self, call: Call, transactions: Vec<Transaction>) -> Vec<TransactionResult> {
        if call.lane.policy().attempts == LaneAttempts::Single {
            return self.inner.transactions(call, transactions).await;
        }
        self.deposit(Operation::Write);
        let mut outcomes = self.inner.transactions(call, transactions.clone()).await;
        let is_retryable =
            |error: &StoreError| error.kind.is_transient() && error.kind != FailureKind::TimedOut;
        let failed: Vec<usize> = (0..outcomes.len())
            .filter(|index| matches!(outcomes.get(*index), Some(Err(error)) if is_retryable(error)))
            .collect();
        let has_timed_out = first_failure(&outcomes).is_some_and(|error| error.kind == FailureKind::TimedOut);
        if failed.is_empty() || has_timed_out || !self.try_withdraw(Operation::Write, call) {
            return outcomes;
        }
        tokio::time::sleep(retry_delay()).await;
        self.retries.increment();
        let repeated = failed.iter().filter_map(|index| transactions.get(*index).cloned()).collect();
        for (index, outcome) in failed.into_iter().zip(self.inner.transactions(call, repeated).await) {
            outcomes[index] = outcome;
        }
        outcomes
    }

    fn budget(&self, operation: Operation) -> &AtomicI64 {
        &self.budgets[operation as usize]
    }

    fn deposit(&self, operation: Operation) {
        let deposit = |budget: i64| (budget < MAX_RETRY_TOKENS).then_some(budget + TOKENS_PER_CALL);
        // Fails only when the budget is full.
        let _ = self.budget(operation).fetch_update(Ordering::Relaxed, Ordering::Relaxed, deposit);
    }

    fn try_withdraw(&self, operation: Operation, call: Call) -> bool {
        let withdrawal = |budget: i64| (budget >= TOKENS_PER_RETRY).then(|| budget - TOKENS_PER_RETRY);
        Instant::now() + MAX_RETRY_DELAY < call.deadline
            && self.budget(operation).fetch_update(Ordering::Relaxed, Ordering::Relaxed, withdrawal).is_ok()
    }
}

fn retry_delay() -> Duration {
    // Randomized, because otherwise all callers would retry at the same time.
    let fraction = jitter::random_fraction(1.0);
    MAX_RETRY_DELAY.mul_f64(fraction)
}

impl<E: Engine> Engine for Retrying<E> {
    async fn query(&self, call: Call, statement: Statement) -> Result<Rows, StoreError> {
        self.read(call, statement).await
    }

    async fn transactions(&self, call: Call, transactions: Vec<Transaction>) -> Vec<TransactionResult> {
        self.write(call, transactions).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::domain::store::Lane;

    /// Fails with one kind until it recovers.
    struct FailingEngine {
        kind: FailureKind,
        recovers_after: usize,
        calls: AtomicUsize,
    }

    impl Engine for FailingEngine {
        async fn query(&self, _: Call, _: Statement) -> Result<Rows, StoreError> {
            if self.calls.fetch_add(1, Ordering::SeqCst) >= self.recovers_after {
                return Ok(Vec::new());
            }
            Err(StoreError::new(self.kind, "test"))
        }

        async fn transactions(&self, call: Call, transactions: Vec<Transaction>) -> Vec<TransactionResult> {
            let outcome = self.query(call, Statement::new("")).await.map(|rows| vec![rows]);
            transactions.iter().map(|_| outcome.clone()).collect()
        }
    }

    fn retrying_engine(kind: FailureKind, well_after: usize) -> Retrying<FailingEngine> {
        let timing = LaneTimeouts { attempt: Duration::from_millis(300), total: Duration::from_millis(800) };
        Retrying::new(FailingEngine { kind, recovers_after: well_after, calls: AtomicUsize::new(0) }, timing)
    }

    async fn query_lane(engine: &Retrying<FailingEngine>, lane: Lane) -> Result<Rows, StoreError> {
        engine.query(Call::within(lane, Duration::from_secs(5)), Statement::new("SELECT 1")).await
    }

    #[tokio::test(start_paused = true)]
    async fn transient_failure_is_retried_once() {
        let engine = retrying_engine(FailureKind::Unreachable, 1);
        assert!(query_lane(&engine, Lane::Known).await.is_ok());
        assert_eq!(engine.inner.calls.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn permanent_failure_is_not_retried() {
        for kind in [FailureKind::Denied, FailureKind::Throttled, FailureKind::Conflict] {
            let engine = retrying_engine(kind, usize::MAX);
            assert!(query_lane(&engine, Lane::Admin).await.is_err());
            assert_eq!(engine.inner.calls.load(Ordering::SeqCst), 1, "{kind:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn retry_budget_limits_retries_to_a_tenth_of_calls() {
        let engine = retrying_engine(FailureKind::Unreachable, usize::MAX);
        for _ in 0..1_000 {
            assert!(query_lane(&engine, Lane::Known).await.is_err());
        }
        let calls = engine.inner.calls.load(Ordering::SeqCst);
        assert!((1_100..=1_111).contains(&calls), "{calls}");
    }

    #[tokio::test(start_paused = true)]
    async fn failed_write_is_retried_and_timed_out_write_is_not() {
        for (kind, calls) in
            [(FailureKind::Unreachable, 2), (FailureKind::Busy, 2), (FailureKind::TimedOut, 1)]
        {
            let engine = retrying_engine(kind, usize::MAX);
            let call = Call::within(Lane::Admin, Duration::from_secs(5));
            assert_eq!(engine.transaction(call, Vec::new()).await.unwrap_err().kind, kind);
            assert_eq!(engine.inner.calls.load(Ordering::SeqCst), calls, "{kind:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failed_writes_leave_read_retry_budget_untouched() {
        let engine = retrying_engine(FailureKind::Unreachable, usize::MAX);
        for _ in 0..100 {
            let call = Call::within(Lane::Usage, Duration::from_secs(5));
            assert!(engine.transaction(call, Vec::new()).await.is_err());
        }
        let before = engine.inner.calls.load(Ordering::SeqCst);
        assert!(query_lane(&engine, Lane::Known).await.is_err());
        assert_eq!(engine.inner.calls.load(Ordering::SeqCst) - before, 2, "the read is retried");
    }

    #[test]
    fn longer_lookup_timeouts_extend_listing_timeouts() {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        let timing = |attempt, total| LaneTimeouts { attempt, total };
        let listing_timeouts_for = |validation| {
            let engine =
                FailingEngine { kind: FailureKind::Internal, recovers_after: 0, calls: AtomicUsize::new(0) };
            Retrying::new(engine, validation).listing_timeouts
        };
        assert_eq!(listing_timeouts_for(timing(second / 3, second)), timing(second * 2, second * 5));
        assert_eq!(listing_timeouts_for(timing(second * 3, minute)), timing(second * 3, minute));
    }

    #[tokio::test(start_paused = true)]
    async fn maintenance_call_is_not_retried() {
        let engine = retrying_engine(FailureKind::Unreachable, usize::MAX);
        assert!(query_lane(&engine, Lane::Maintenance).await.is_err());
        assert_eq!(engine.inner.calls.load(Ordering::SeqCst), 1);
    }
}
