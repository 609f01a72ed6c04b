use std::{
    sync::{Arc, Mutex, atomic::AtomicUsize},
    time::Duration,
};

use super::*;
use crate::domain::clock::{ManualClock, UnixMillis};

/// Succeeds, or fails with a kind, and counts calls.
#[derive(Default)]
struct FailingDatabase {
    failure: Mutex<Option<FailureKind>>,
    calls: AtomicUsize,
}

impl Engine for FailingDatabase {
    async fn query(&self, _: Call, _: Statement) -> Result<Rows, StoreError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match *self.failure.lock().unwrap() {
            Some(kind) => Err(StoreError::new(kind, "test")),
            None => Ok(Vec::new()),
        }
    }

    async fn transactions(&self, call: Call, transactions: Vec<Transaction>) -> Vec<TransactionResult> {
        let outcome = self.query(call, Statement::new("")).await.map(|rows| vec![rows]);
        transactions.iter().map(|_| outcome.clone()).collect()
    }
}

struct BreakerSetup {
    clock: Arc<ManualClock>,
    breaker: Breaker<FailingDatabase>,
}

impl BreakerSetup {
    fn new() -> Self {
        let clock = ManualClock::at(UnixMillis(0));
        let breaker = Breaker::new(FailingDatabase::default(), Arc::clone(&clock) as SharedClock);
        Self { clock, breaker }
    }

    fn set_failure(&self, kind: Option<FailureKind>) {
        *self.breaker.inner.failure.lock().unwrap() = kind;
    }

    async fn read_known(&self) -> bool {
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

    fn open_circuits(&self) -> Vec<Circuit> {
        Circuit::ALL.into_iter().filter(|circuit| self.breaker.is_open(*circuit)).collect()
    }

    fn call_count(&self) -> usize {
        self.breaker.inner.calls.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn breaker_opens_at_half_failures_and_closes_on_probe() {
    let setup = BreakerSetup::new();
    for call in 0..20 {
        assert!(!setup.breaker.is_open(Circuit::Lookups), "after {call} calls");
        setup.set_failure((call % 2 == 1).then_some(FailureKind::TimedOut));
        setup.read_known().await;
    }
    assert!(setup.breaker.is_open(Circuit::Lookups));

    setup.set_failure(Some(FailureKind::TimedOut));
    for _ in 0..1_000 {
        assert!(!setup.read_known().await);
    }
    assert_eq!(setup.call_count(), 20, "all calls are rejected");
    assert_eq!(
        (setup.breaker.open_count(Circuit::Lookups), setup.breaker.refused_count(Operation::Read)),
        (1, 1_000)
    );
    // An hour of outage under load: one or two probes per second.
    for _ in 0..36_000 {
        setup.clock.advance(Duration::from_millis(100));
        setup.read_known().await;
    }
    let probes = setup.call_count() - 20;
    assert!((3_500..=7_201).contains(&probes), "{probes}");

    setup.set_failure(None);
    setup.clock.advance(Duration::from_secs(1));
    assert!(
        setup.read_known().await && !setup.breaker.is_open(Circuit::Lookups),
        "the first success closes it"
    );
    assert!(setup.read_known().await);
}

#[tokio::test]
async fn few_or_expired_failures_keep_breaker_closed() {
    let setup = BreakerSetup::new();
    setup.set_failure(Some(FailureKind::Unreachable));
    for _ in 0..19 {
        setup.read_known().await;
    }
    assert!(!setup.breaker.is_open(Circuit::Lookups));
    setup.clock.advance(Duration::from_secs(6));
    setup.read_known().await;
    assert!(!setup.breaker.is_open(Circuit::Lookups), "the nineteen failures have expired");
}

/// Nineteen calls failed, and then the database recovers: the success that shows it must not complete the minimum
/// number and open the circuit.
#[tokio::test]
async fn success_never_opens_breaker() {
    let setup = BreakerSetup::new();
    setup.set_failure(Some(FailureKind::Unreachable));
    for _ in 0..19 {
        setup.read_known().await;
    }
    setup.set_failure(None);
    assert!(setup.read_known().await && !setup.breaker.is_open(Circuit::Lookups));
    setup.set_failure(Some(FailureKind::Unreachable));
    setup.read_known().await;
    assert!(setup.breaker.is_open(Circuit::Lookups), "earlier failures still count");
}

#[tokio::test]
async fn hurried_timeouts_are_not_counted() {
    let setup = BreakerSetup::new();
    setup.set_failure(Some(FailureKind::TimedOut));
    for _ in 0..100 {
        let call =
            Call { has_shortened_deadline: true, ..Call::within(Lane::Admin, Duration::from_millis(1)) };
        assert!(setup.breaker.query(call, Statement::new("SELECT 1")).await.is_err());
    }
    assert!(!setup.breaker.is_open(Circuit::Lookups));
}

#[tokio::test]
async fn starved_reads_open_breaker_only_without_successes() {
    let setup = BreakerSetup::new();
    // One of a hundred calls succeeds: the process is starved, and the database responds.
    for call in 0..1_000 {
        setup.set_failure((call % 100 != 0).then_some(FailureKind::Starved));
        setup.clock.advance(Duration::from_millis(10));
        setup.read_known().await;
        assert!(!setup.breaker.is_open(Circuit::Lookups), "after {call} calls");
    }
    setup.set_failure(Some(FailureKind::Starved));
    setup.clock.advance(Duration::from_secs(5));
    for _ in 0..20 {
        setup.read_known().await;
    }
    assert!(setup.breaker.is_open(Circuit::Lookups), "no success for longer than the window");
}

#[tokio::test]
async fn conflict_counts_as_an_answer() {
    let setup = BreakerSetup::new();
    setup.set_failure(Some(FailureKind::Conflict));
    for _ in 0..100 {
        setup.read_known().await;
    }
    assert!(!setup.breaker.is_open(Circuit::Lookups));
}

#[tokio::test]
async fn read_and_write_circuits_are_independent() {
    let setup = BreakerSetup::new();
    setup.set_failure(Some(FailureKind::Denied));
    for _ in 0..100 {
        setup.write().await;
    }
    assert_eq!(setup.open_circuits(), [Circuit::Writes]);
    assert_eq!(setup.call_count(), 20, "further writes are rejected");
    setup.set_failure(None);
    assert!(setup.read(Lane::Known).await && setup.read(Lane::Feed).await && !setup.write().await);

    let setup = BreakerSetup::new();
    setup.set_failure(Some(FailureKind::TimedOut));
    for _ in 0..100 {
        setup.read(Lane::Unknown).await;
    }
    assert_eq!(setup.open_circuits(), [Circuit::Lookups]);
    setup.set_failure(None);
    assert!(setup.write().await);
    assert_eq!(setup.open_circuits(), [Circuit::Lookups], "a write says nothing about reads");
}

#[tokio::test]
async fn slow_lane_opens_only_its_own_circuit() {
    for lane in [Lane::Sessions, Lane::Usage, Lane::Admin, Lane::Maintenance] {
        let setup = BreakerSetup::new();
        setup.set_failure(Some(FailureKind::TimedOut));
        for _ in 0..100 {
            setup.read(lane).await;
        }
        assert_eq!(setup.open_circuits().len(), 1);
        setup.set_failure(None);
        assert!(setup.read(Lane::Known).await && !setup.read(lane).await, "{lane:?}");
    }
}

#[tokio::test]
async fn feed_bypasses_breaker_and_its_recovery_makes_probe_due() {
    let setup = BreakerSetup::new();
    setup.set_failure(Some(FailureKind::Unreachable));
    for _ in 0..40 {
        setup.read_known().await;
    }
    for _ in 0..100 {
        setup.read(Lane::Feed).await;
    }
    assert_eq!(setup.call_count(), 120, "every poll of the feed is sent");
    assert!(!setup.breaker.is_probe_due(Circuit::Lookups));

    setup.set_failure(None);
    assert!(setup.read(Lane::Feed).await);
    assert_eq!(
        setup.open_circuits(),
        [Circuit::Lookups],
        "the feed's success makes a probe due and does not close the circuit"
    );
    assert!(setup.breaker.is_probe_due(Circuit::Lookups));
    assert!(setup.read_known().await && setup.open_circuits().is_empty());
}

#[tokio::test]
async fn one_write_timeout_opens_breaker_for_five_seconds() {
    let setup = BreakerSetup::new();
    setup.set_failure(Some(FailureKind::TimedOut));
    assert!(!setup.write().await);
    assert_eq!(setup.open_circuits(), [Circuit::Writes]);
    setup.set_failure(None);
    setup.clock.advance(Duration::from_millis(4_999));
    assert!(!setup.write().await, "the first write may still be in flight");
    setup.clock.advance(Duration::from_millis(5_001));
    assert!(setup.write().await && setup.open_circuits().is_empty());
}
