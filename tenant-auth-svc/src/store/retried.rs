//! Tries once more, within the time and within a budget.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant},
};

use super::engine::{Engine, Rows, Statement};
use crate::{
    domain::store::{Call, Lane, StoreError},
    measure::counts::Counter,
};

/// How long the calls of one lane may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The first attempt; the second has whatever is left of the total, so that a database far away can still be
    /// connected to.
    pub attempt: Duration,
    /// Both attempts together.
    pub total: Duration,
}

/// For changes: who makes one waits gladly until it is committed far away, be it a page of 500 imported keys.
const WRITES: Timing = Timing { attempt: Duration::from_secs(2), total: Duration::from_secs(5) };
/// Who waits for less than this, and less than an attempt takes, learns nothing about the database.
const ENOUGH: Duration = Duration::from_secs(1);
/// The longest wait before the second attempt; drawn at random from zero up, so that callers spread out.
const MAX_PAUSE: Duration = Duration::from_millis(50);
/// One call earns a tenth of a retry, so retries add at most 10 % to the load of a failing database.
const EARNED: i64 = 1;
const COST: i64 = 10;
/// Ten retries at once, for the rare failure of a quiet service.
const MOST: i64 = 100;

/// An engine whose calls are repeated once when that may help.
///
/// Writes too: every transaction given to an [`Engine`] is safe to repeat.
#[derive(Debug)]
pub struct Retried<E> {
    inner: E,
    validation: Timing,
    budget: AtomicI64,
    retries: Counter,
}

impl<E: Engine> Retried<E> {
    /// Repeats calls of `inner`; `validation` is the timing of that lane.
    pub fn new(inner: E, validation: Timing) -> Self {
        Self { inner, validation, budget: AtomicI64::new(MOST), retries: Counter::default() }
    }

    /// How many calls were tried once more.
    pub fn retries(&self) -> u64 {
        self.retries.get()
    }

    /// The engine whose calls are repeated.
    pub fn inner(&self) -> &E {
        &self.inner
    }

    async fn attempts<T, F>(&self, call: Call, run: impl Fn(Call) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        let timing = match call.lane {
            Lane::Known | Lane::Unknown => self.validation,
            Lane::Admin | Lane::Sessions | Lane::Usage => WRITES,
            // The next poll is the second attempt.
            Lane::Feed => return run(call).await,
            // It has the time its caller gives it: a migration may take longer than any validation.
            Lane::Maintenance => return run(call).await,
        };
        let now = Instant::now();
        let hurried = call.deadline < now + timing.attempt.min(ENOUGH);
        let last = Call { deadline: call.deadline.min(now + timing.total), hurried, ..call };
        let first = Call { deadline: last.deadline.min(now + timing.attempt), ..last };
        self.earn();
        match run(first).await {
            Err(error) if error.kind.is_transient() && self.spend(last) => {
                tokio::time::sleep(pause()).await;
                self.retries.one();
                run(last).await
            }
            outcome => outcome,
        }
    }

    fn earn(&self) {
        let more = |budget: i64| (budget < MOST).then_some(budget + EARNED);
        // Refused only when it is full already.
        let _ = self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    fn spend(&self, call: Call) -> bool {
        let less = |budget: i64| (budget >= COST).then(|| budget - COST);
        Instant::now() + MAX_PAUSE < call.deadline
            && self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

fn pause() -> Duration {
    // Without randomness everybody waits the same: worse, not wrong.
    let chance = getrandom::u32().map_or(1.0, |drawn| f64::from(drawn) / f64::from(u32::MAX));
    MAX_PAUSE.mul_f64(chance)
}

impl<E: Engine> Engine for Retried<E> {
    async fn query(&self, call: Call, statement: Statement) -> Result<Rows, StoreError> {
        self.attempts(call, |call| self.inner.query(call, statement.clone())).await
    }

    async fn transaction(&self, call: Call, statements: Vec<Statement>) -> Result<Vec<Rows>, StoreError> {
        self.attempts(call, |call| self.inner.transaction(call, statements.clone())).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::domain::store::FailureKind;

    /// Fails with one kind until it is told to be well.
    struct Failing {
        kind: FailureKind,
        well_after: usize,
        calls: AtomicUsize,
    }

    impl Engine for Failing {
        async fn query(&self, _: Call, _: Statement) -> Result<Rows, StoreError> {
            if self.calls.fetch_add(1, Ordering::SeqCst) >= self.well_after {
                return Ok(Vec::new());
            }
            Err(StoreError::new(self.kind, "test"))
        }

        async fn transaction(&self, call: Call, _: Vec<Statement>) -> Result<Vec<Rows>, StoreError> {
            self.query(call, Statement::new("")).await.map(|rows| vec![rows])
        }
    }

    fn retried(kind: FailureKind, well_after: usize) -> Retried<Failing> {
        let timing = Timing { attempt: Duration::from_millis(300), total: Duration::from_millis(800) };
        Retried::new(Failing { kind, well_after, calls: AtomicUsize::new(0) }, timing)
    }

    async fn ask(engine: &Retried<Failing>, lane: Lane) -> Result<Rows, StoreError> {
        engine.query(Call::within(lane, Duration::from_secs(5)), Statement::new("SELECT 1")).await
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_tried_once_more() {
        let engine = retried(FailureKind::Unreachable, 1);
        assert!(ask(&engine, Lane::Known).await.is_ok());
        assert_eq!(engine.inner.calls.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_pass_is_not() {
        for kind in [FailureKind::Denied, FailureKind::Throttled, FailureKind::Conflict] {
            let engine = retried(kind, usize::MAX);
            assert!(ask(&engine, Lane::Admin).await.is_err());
            assert_eq!(engine.inner.calls.load(Ordering::SeqCst), 1, "{kind:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_database_that_is_down_gets_a_tenth_more_and_no_storm() {
        let engine = retried(FailureKind::Unreachable, usize::MAX);
        for _ in 0..1_000 {
            assert!(ask(&engine, Lane::Known).await.is_err());
        }
        let calls = engine.inner.calls.load(Ordering::SeqCst);
        assert!((1_100..=1_111).contains(&calls), "{calls}");
    }

    #[tokio::test(start_paused = true)]
    async fn maintenance_is_left_to_its_caller() {
        let engine = retried(FailureKind::Unreachable, usize::MAX);
        assert!(ask(&engine, Lane::Maintenance).await.is_err());
        assert_eq!(engine.inner.calls.load(Ordering::SeqCst), 1);
    }
}
