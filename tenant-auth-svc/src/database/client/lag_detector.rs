//! Tells a database that was not answering from a process that was not there to hear it.

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

/// A call that ran out of time says nothing about the database if this process was late for this share of it. A call passes
/// through several tasks, on its way and back, each of which is late by as much.
const MIN_LAG_DIVISOR: u32 = 3;

/// An engine whose reads that ran out of time are looked into.
///
/// Not its writes: one without an answer may be under way still, whoever is to blame, and the next one has to wait.
#[derive(Debug)]
pub struct LagDetector<E> {
    inner: E,
    lag: Arc<SchedulerLag>,
}

impl<E: Engine> LagDetector<E> {
    /// Looks into the reads of `inner`.
    pub fn new(inner: E, lag: Arc<SchedulerLag>) -> Self {
        Self { inner, lag }
    }

    /// How late this process is.
    pub fn lag(&self) -> &Arc<SchedulerLag> {
        &self.lag
    }
}

impl<E: Engine> Engine for LagDetector<E> {
    async fn query(&self, call: Call, statement: Statement) -> Result<Rows, StoreError> {
        probe::watch_thread(&self.lag);
        let began = Instant::now();
        let outcome = self.inner.query(call, statement).await;
        match outcome {
            Err(error) if error.kind == FailureKind::TimedOut => {
                let ended = Instant::now();
                // Its own timer may have gone off late.
                self.lag.record(call.deadline, ended);
                let (late, took) = (self.lag.lag_between(began, ended), ended - began);
                Err(if is_starved(late, took) { starved_error(late, took) } else { error })
            }
            outcome => outcome,
        }
    }

    async fn transactions(&self, call: Call, transactions: Vec<Transaction>) -> Vec<TransactionResult> {
        probe::watch_thread(&self.lag);
        self.inner.transactions(call, transactions).await
    }
}

fn is_starved(late: Duration, took: Duration) -> bool {
    !late.is_zero() && late * MIN_LAG_DIVISOR >= took
}

fn starved_error(late: Duration, took: Duration) -> StoreError {
    let (late, took) = (late.as_millis(), took.as_millis());
    let message = format!("no answer in {took} ms, for {late} ms of which this process had no CPU");
    StoreError::new(FailureKind::Starved, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::store::Lane;

    /// Runs out of time, and has this process late meanwhile.
    struct TimingOutEngine(Arc<SchedulerLag>, bool);

    impl Engine for TimingOutEngine {
        async fn query(&self, _: Call, _: Statement) -> Result<Rows, StoreError> {
            if self.1 {
                // All of its time, and more.
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
            assert_eq!(written.kind, FailureKind::TimedOut, "it may be under way still");
        }
    }

    #[test]
    fn lag_of_one_third_counts_as_starved() {
        let ms = Duration::from_millis;
        assert!(is_starved(ms(100), ms(300)) && is_starved(ms(300), ms(300)));
        assert!(!is_starved(ms(99), ms(300)) && !is_starved(ms(0), ms(0)));
    }
}
