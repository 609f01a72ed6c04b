use std::{
    sync::{Arc, Mutex, atomic::AtomicUsize},
    time::Duration,
};

use super::*;
use crate::domain::clock::{ManualClock, UnixMillis};

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

    async fn transactions(&self, call: Call, transactions: Vec<Transaction>) -> Vec<Outcome> {
        let outcome = self.query(call, Statement::new("")).await.map(|rows| vec![rows]);
        transactions.iter().map(|_| outcome.clone()).collect()
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
        self.read(Lane::Known).await
    }

    async fn read(&self, lane: Lane) -> bool {
        let call = Call::within(lane, Duration::from_secs(1));
        self.breaker.query(call, Statement::new("SELECT 1")).await.is_ok()
    }

    async fn write(&self) -> bool {
        let call = Call::within(Lane::Usage, Duration::from_secs(1));
        self.breaker.transaction(call, Vec::new()).await.is_ok()
    }

    fn open(&self) -> Vec<Circuit> {
        Circuit::ALL.into_iter().filter(|circuit| self.breaker.is_open(*circuit)).collect()
    }

    fn calls(&self) -> usize {
        self.breaker.inner.calls.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn half_of_twenty_failed_calls_open_it_and_a_probe_closes_it() {
    let setup = Setup::new();
    for call in 0..20 {
        assert!(!setup.breaker.is_open(Circuit::Lookups), "after {call} calls");
        setup.fail((call % 2 == 1).then_some(FailureKind::TimedOut));
        setup.call().await;
    }
    assert!(setup.breaker.is_open(Circuit::Lookups));

    setup.fail(Some(FailureKind::TimedOut));
    for _ in 0..1_000 {
        assert!(!setup.call().await);
    }
    assert_eq!(setup.calls(), 20, "nothing got through");
    assert_eq!((setup.breaker.opened(Circuit::Lookups), setup.breaker.refused(Operation::Read)), (1, 1_000));
    // An hour of outage under load: one or two probes a second.
    for _ in 0..36_000 {
        setup.clock.advance(Duration::from_millis(100));
        setup.call().await;
    }
    let probes = setup.calls() - 20;
    assert!((3_500..=7_201).contains(&probes), "{probes}");

    setup.fail(None);
    setup.clock.advance(Duration::from_secs(1));
    assert!(setup.call().await && !setup.breaker.is_open(Circuit::Lookups), "the first success closes it");
    assert!(setup.call().await);
}

#[tokio::test]
async fn few_or_old_failures_prove_nothing() {
    let setup = Setup::new();
    setup.fail(Some(FailureKind::Unreachable));
    for _ in 0..19 {
        setup.call().await;
    }
    assert!(!setup.breaker.is_open(Circuit::Lookups));
    setup.clock.advance(Duration::from_secs(6));
    setup.call().await;
    assert!(!setup.breaker.is_open(Circuit::Lookups), "the nineteen are forgotten");
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
    assert!(setup.call().await && !setup.breaker.is_open(Circuit::Lookups));
    setup.fail(Some(FailureKind::Unreachable));
    setup.call().await;
    assert!(setup.breaker.is_open(Circuit::Lookups), "they still count");
}

#[tokio::test]
async fn callers_who_do_not_wait_prove_nothing() {
    let setup = Setup::new();
    setup.fail(Some(FailureKind::TimedOut));
    for _ in 0..100 {
        let call = Call { hurried: true, ..Call::within(Lane::Admin, Duration::from_millis(1)) };
        assert!(setup.breaker.query(call, Statement::new("SELECT 1")).await.is_err());
    }
    assert!(!setup.breaker.is_open(Circuit::Lookups));
}

#[tokio::test]
async fn who_was_late_himself_blames_a_database_only_when_nothing_else_is_heard_of_it() {
    let setup = Setup::new();
    // One of a hundred gets through: the process is starved, and the database answers.
    for call in 0..1_000 {
        setup.fail((call % 100 != 0).then_some(FailureKind::Starved));
        setup.clock.advance(Duration::from_millis(10));
        setup.call().await;
        assert!(!setup.breaker.is_open(Circuit::Lookups), "after {call} calls");
    }
    setup.fail(Some(FailureKind::Starved));
    setup.clock.advance(Duration::from_secs(5));
    for _ in 0..20 {
        setup.call().await;
    }
    assert!(setup.breaker.is_open(Circuit::Lookups), "nothing was heard for longer than the window");
}

#[tokio::test]
async fn an_answer_that_is_a_refusal_is_an_answer() {
    let setup = Setup::new();
    setup.fail(Some(FailureKind::Conflict));
    for _ in 0..100 {
        setup.call().await;
    }
    assert!(!setup.breaker.is_open(Circuit::Lookups));
}

#[tokio::test]
async fn writes_that_are_refused_say_nothing_about_reads_and_reads_nothing_about_writes() {
    let setup = Setup::new();
    setup.fail(Some(FailureKind::Denied));
    for _ in 0..100 {
        setup.write().await;
    }
    assert_eq!(setup.open(), [Circuit::Writes]);
    assert_eq!(setup.calls(), 20, "and no more writes get through");
    setup.fail(None);
    assert!(setup.read(Lane::Known).await && setup.read(Lane::Feed).await && !setup.write().await);

    let setup = Setup::new();
    setup.fail(Some(FailureKind::TimedOut));
    for _ in 0..100 {
        setup.read(Lane::Unknown).await;
    }
    assert_eq!(setup.open(), [Circuit::Lookups]);
    setup.fail(None);
    assert!(setup.write().await);
    assert_eq!(setup.open(), [Circuit::Lookups], "a write says nothing about reads");
}

#[tokio::test]
async fn a_lane_that_reads_slowly_says_nothing_about_the_others() {
    for lane in [Lane::Sessions, Lane::Usage, Lane::Admin, Lane::Maintenance] {
        let setup = Setup::new();
        setup.fail(Some(FailureKind::TimedOut));
        for _ in 0..100 {
            setup.read(lane).await;
        }
        assert_eq!(setup.open().len(), 1);
        setup.fail(None);
        assert!(setup.read(Lane::Known).await && !setup.read(lane).await, "{lane:?}");
    }
}

#[tokio::test]
async fn the_feed_waits_behind_no_probe_and_its_return_is_followed_by_one_at_once() {
    let setup = Setup::new();
    setup.fail(Some(FailureKind::Unreachable));
    for _ in 0..40 {
        setup.call().await;
    }
    for _ in 0..100 {
        setup.read(Lane::Feed).await;
    }
    assert_eq!(setup.calls(), 120, "every reading of the feed was tried");
    assert!(!setup.breaker.is_probe_due(Circuit::Lookups));

    setup.fail(None);
    assert!(setup.read(Lane::Feed).await);
    assert_eq!(setup.open(), [Circuit::Lookups], "it says that reads may work, not that these do");
    assert!(setup.breaker.is_probe_due(Circuit::Lookups));
    assert!(setup.call().await && setup.open().is_empty());
}

#[tokio::test]
async fn one_write_without_an_answer_is_enough_and_the_next_one_waits() {
    let setup = Setup::new();
    setup.fail(Some(FailureKind::TimedOut));
    assert!(!setup.write().await);
    assert_eq!(setup.open(), [Circuit::Writes]);
    setup.fail(None);
    setup.clock.advance(Duration::from_millis(4_999));
    assert!(!setup.write().await, "the first one may still be under way");
    setup.clock.advance(Duration::from_millis(5_001));
    assert!(setup.write().await && setup.open().is_empty());
}
