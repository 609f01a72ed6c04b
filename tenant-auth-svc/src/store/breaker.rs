//! Stops asking a database that does not answer, and looks now and then whether it does again.
//!
//! Open, it fails calls at once, so that memory can answer in their place without a wait, and lets one call through
//! every half to one second. The first one that succeeds closes it.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::engine::{Engine, Rows, Statement};
use crate::{
    domain::{
        clock::SharedClock,
        store::{Call, FailureKind, StoreError},
    },
    measure::counts::{Counter, Counts},
};

/// Over how much time calls are counted.
const WINDOW: Duration = Duration::from_secs(5);
/// With fewer calls than this in the window, nothing can be concluded.
const ENOUGH: usize = 20;
/// The shortest wait between two probes; the longest is twice that. Drawn at random, so that replicas spread out.
const PROBE: Duration = Duration::from_millis(500);

/// An engine that is not asked while it does not answer.
#[derive(Debug)]
pub struct Breaker<E> {
    inner: E,
    clock: SharedClock,
    open: AtomicBool,
    state: Mutex<State>,
    opened: Counter,
    /// Calls not let through, in the one slot. Open, it may be asked at the rate of the traffic.
    refused: Counts,
}

#[derive(Debug, Default)]
struct State {
    /// When each call of the window ended, and whether the database failed it.
    outcomes: VecDeque<(Duration, bool)>,
    failures: usize,
    /// When the next call is let through; only while open.
    next_probe: Duration,
}

impl<E: Engine> Breaker<E> {
    /// Stands in front of `inner`.
    pub fn new(inner: E, clock: SharedClock) -> Self {
        Self {
            inner,
            clock,
            open: AtomicBool::new(false),
            state: Mutex::default(),
            opened: Counter::default(),
            refused: Counts::new(1),
        }
    }

    /// The engine behind.
    pub fn inner(&self) -> &E {
        &self.inner
    }

    /// Whether calls fail at once.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// How often it opened.
    pub fn opened(&self) -> u64 {
        self.opened.get()
    }

    /// How many calls failed at once.
    pub fn refused(&self) -> u64 {
        self.refused.get(0)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is made of steps that leave it usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self) -> Result<(), StoreError> {
        if !self.is_open() {
            return Ok(());
        }
        let now = self.clock.monotonic();
        let mut state = self.state();
        if now < state.next_probe {
            self.refused.add(0, 1);
            let mut error = StoreError::new(FailureKind::CircuitOpen, "the database has not answered lately");
            error.retry_after = Some(PROBE * 2);
            return Err(error);
        }
        state.next_probe = now + pause();
        Ok(())
    }

    fn note(&self, call: Call, error: Option<&StoreError>) {
        let works = call.tells(error.map(|error| error.kind));
        let Some(failed) = works.map(|works| !works) else { return };
        let now = self.clock.monotonic();
        let mut state = self.state();
        if self.is_open() {
            if !failed {
                *state = State::default();
                self.open.store(false, Ordering::Relaxed);
                tracing::info!("the database answers again");
            }
            return;
        }
        state.outcomes.push_back((now, failed));
        state.failures += usize::from(failed);
        while let Some(&(at, failed)) = state.outcomes.front()
            && now.saturating_sub(at) > WINDOW
        {
            state.outcomes.pop_front();
            state.failures -= usize::from(failed);
        }
        // Never on a success, though it may complete the number: the database has just answered.
        if failed && state.outcomes.len() >= ENOUGH && state.failures * 2 >= state.outcomes.len() {
            state.next_probe = now + pause();
            self.open.store(true, Ordering::Relaxed);
            self.opened.one();
            tracing::error!(
                calls = state.outcomes.len(),
                failures = state.failures,
                "the database does not answer: it is asked once or twice a second until it does"
            );
        }
    }
}

fn pause() -> Duration {
    // Without randomness everybody waits the longest: worse, not wrong.
    let chance = getrandom::u32().map_or(1.0, |drawn| f64::from(drawn) / f64::from(u32::MAX));
    PROBE.mul_f64(1.0 + chance)
}

impl<E: Engine> Engine for Breaker<E> {
    async fn query(&self, call: Call, statement: Statement) -> Result<Rows, StoreError> {
        self.admit()?;
        let outcome = self.inner.query(call, statement).await;
        self.note(call, outcome.as_ref().err());
        outcome
    }

    async fn transaction(&self, call: Call, statements: Vec<Statement>) -> Result<Vec<Rows>, StoreError> {
        self.admit()?;
        let outcome = self.inner.transaction(call, statements).await;
        self.note(call, outcome.as_ref().err());
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicUsize};

    use super::*;
    use crate::domain::{
        clock::{ManualClock, UnixMillis},
        store::Lane,
    };

    /// Answers, or fails with a kind, and counts.
    #[derive(Default)]
    struct Database {
        fails: Mutex<Option<FailureKind>>,
        calls: AtomicUsize,
    }

    impl Engine for Database {
        async fn query(&self, _: Call, _: Statement) -> Result<Rows, StoreError> {
            self.calls.fetch_add(1, Ordering::SeqCst);
            match *self.fails.lock().unwrap() {
                Some(kind) => Err(StoreError::new(kind, "test")),
                None => Ok(Vec::new()),
            }
        }

        async fn transaction(&self, call: Call, _: Vec<Statement>) -> Result<Vec<Rows>, StoreError> {
            self.query(call, Statement::new("")).await.map(|rows| vec![rows])
        }
    }

    struct Setup {
        clock: Arc<ManualClock>,
        breaker: Breaker<Database>,
    }

    impl Setup {
        fn new() -> Self {
            let clock = ManualClock::at(UnixMillis(0));
            let breaker = Breaker::new(Database::default(), Arc::clone(&clock) as SharedClock);
            Self { clock, breaker }
        }

        fn fail(&self, kind: Option<FailureKind>) {
            *self.breaker.inner.fails.lock().unwrap() = kind;
        }

        async fn call(&self) -> bool {
            let call = Call::within(Lane::Known, Duration::from_secs(1));
            self.breaker.query(call, Statement::new("SELECT 1")).await.is_ok()
        }

        fn calls(&self) -> usize {
            self.breaker.inner.calls.load(Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn half_of_twenty_failed_calls_open_it_and_a_probe_closes_it() {
        let setup = Setup::new();
        for call in 0..20 {
            assert!(!setup.breaker.is_open(), "after {call} calls");
            setup.fail((call % 2 == 1).then_some(FailureKind::TimedOut));
            setup.call().await;
        }
        assert!(setup.breaker.is_open());

        setup.fail(Some(FailureKind::TimedOut));
        for _ in 0..1_000 {
            assert!(!setup.call().await);
        }
        assert_eq!(setup.calls(), 20, "nothing got through");
        assert_eq!((setup.breaker.opened(), setup.breaker.refused()), (1, 1_000));
        // An hour of outage under load: one or two probes a second.
        for _ in 0..36_000 {
            setup.clock.advance(Duration::from_millis(100));
            setup.call().await;
        }
        let probes = setup.calls() - 20;
        assert!((3_500..=7_201).contains(&probes), "{probes}");

        setup.fail(None);
        setup.clock.advance(Duration::from_secs(1));
        assert!(setup.call().await && !setup.breaker.is_open(), "the first success closes it");
        assert!(setup.call().await);
    }

    #[tokio::test]
    async fn few_or_old_failures_prove_nothing() {
        let setup = Setup::new();
        setup.fail(Some(FailureKind::Unreachable));
        for _ in 0..19 {
            setup.call().await;
        }
        assert!(!setup.breaker.is_open());
        setup.clock.advance(Duration::from_secs(6));
        setup.call().await;
        assert!(!setup.breaker.is_open(), "the nineteen are forgotten");
    }

    /// Nineteen calls failed, and then the database is repaired: the answer that shows it must not be the twentieth.
    #[tokio::test]
    async fn a_success_never_opens_it() {
        let setup = Setup::new();
        setup.fail(Some(FailureKind::Unreachable));
        for _ in 0..19 {
            setup.call().await;
        }
        setup.fail(None);
        assert!(setup.call().await && !setup.breaker.is_open());
        setup.fail(Some(FailureKind::Unreachable));
        setup.call().await;
        assert!(setup.breaker.is_open(), "they still count");
    }

    #[tokio::test]
    async fn callers_who_do_not_wait_prove_nothing() {
        let setup = Setup::new();
        setup.fail(Some(FailureKind::TimedOut));
        for _ in 0..100 {
            let call = Call { hurried: true, ..Call::within(Lane::Admin, Duration::from_millis(1)) };
            assert!(setup.breaker.query(call, Statement::new("SELECT 1")).await.is_err());
        }
        assert!(!setup.breaker.is_open());
    }

    #[tokio::test]
    async fn an_answer_that_is_a_refusal_is_an_answer() {
        let setup = Setup::new();
        setup.fail(Some(FailureKind::Conflict));
        for _ in 0..100 {
            setup.call().await;
        }
        assert!(!setup.breaker.is_open());
    }
}
