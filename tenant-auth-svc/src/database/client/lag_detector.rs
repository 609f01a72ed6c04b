//! Distinguishes a database that did not respond from a process that lacked the CPU to receive the response.

mod probe;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    database::engine::{Engine, Rows, Statement, Transaction, TransactionResult},
    domain::store::{Call, FailureKind, StoreError},
    instruments::lag::SchedulerLag,
};

/// A timeout says nothing about the database if this process lagged for this fraction of the call. A call passes
/// through several tasks, in both directions, and each of them is late by the same amount.
const MIN_LAG_DIVISOR: u32 = 3;

/// An engine whose timed-out reads are checked for scheduler lag.
///
/// Writes are not checked: one that timed out may still be in flight, whatever the cause, and the next one has to
/// wait.
#[derive(Debug)]
pub struct LagDetector<E> {
    inner: E,
    lag: Arc<SchedulerLag>,
}

impl<E: Engine> LagDetector<E> {
    /// Checks the reads of `inner`.
    pub fn new(inner: E, lag: Arc<SchedulerLag>) -> Self {
        Self { inner, lag }
    }

    /// The inner engine.
    pub fn inner(&self) -> &E {
        &self.inner
    }

    /// The scheduler lag of this process.
    pub fn lag(&self) -> &Arc<SchedulerLag> {
        &self.lag
    }
}

impl<E: Engine> Engine for LagDetector<E> {
    async fn query(&self, call: Call, statement: Statement) -> Result<Rows, StoreError> {
        probe::watch_thread(&self.lag);
        let started = Instant::now();
        let outcome = self.inner.query(call, statement).await;
        match outcome {
            Err(error) if error.kind == FailureKind::TimedOut => {
                let ended = Instant::now();
                // The timer of the call itself may have fired late.
                self.lag.record(call.deadline, ended);
                let (late, latency) = (self.lag.lag_between(started, ended), ended - started);
                Err(if is_starved(late, latency) { starved_error(late, latency) } else { error })
            }
            outcome => outcome,
        }
    }

    async fn transactions(&self, call: Call, transactions: Vec<Transaction>) -> Vec<TransactionResult> {
        probe::watch_thread(&self.lag);
        self.inner.transactions(call, transactions).await
    }
}

fn is_starved(late: Duration, latency: Duration) -> bool {
    !late.is_zero() && late * MIN_LAG_DIVISOR >= latency
}

fn starved_error(late: Duration, latency: Duration) -> StoreError {
    let (late, latency) = (late.as_millis(), latency.as_millis());
    let message = format!("no response in {latency} ms; this process had no CPU for {late} ms of it");
    StoreError::new(FailureKind::Starved, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::store::Lane;

    /// Times out, and makes this process lag meanwhile if configured.
    struct TimingOutEngine(Arc<SchedulerLag>, bool);

    impl Engine for TimingOutEngine {
        async fn query(&self, _: Call, _: Statement) -> Result<Rows, StoreError> {
            if self.1 {
                // A lag that covers the whole call.
                self.0
                    .record(Instant::now() - Duration::from_secs(1), Instant::now() + Duration::from_secs(1));
            }
            Err(StoreError::new(FailureKind::TimedOut, "test"))
        }

        async fn transactions(&self, call: Call, transactions: Vec<Transaction>) -> Vec<TransactionResult> {
            let error = self.query(call, Statement::new("")).await.map(|rows| vec![rows]);
            transactions.iter().map(|_| error.clone()).collect()
        }
    }

    #[tokio::test]
    async fn timed_out_read_is_starved_when_process_lagged() {
        for (is_late, kind) in [(false, FailureKind::TimedOut), (true, FailureKind::Starved)] {
            let lag = Arc::new(SchedulerLag::default());
            lag.start();
            let engine = LagDetector::new(TimingOutEngine(Arc::clone(&lag), is_late), lag);
            let call = Call::within(Lane::Known, Duration::from_secs(1));
            assert_eq!(engine.query(call, Statement::new("SELECT 1")).await.unwrap_err().kind, kind);
            let written = engine.transaction(call, Vec::new()).await.unwrap_err();
            assert_eq!(written.kind, FailureKind::TimedOut, "the write may still be in flight");
        }
    }

    #[test]
    fn lag_of_one_third_counts_as_starved() {
        let ms = Duration::from_millis;
        assert!(is_starved(ms(100), ms(300)) && is_starved(ms(300), ms(300)));
        assert!(!is_starved(ms(99), ms(300)) && !is_starved(ms(0), ms(0)));
    }
}
