//! Comparing totals of usage with their events while the service runs, for those who watch it.
//!
//! The comparison is made here and not only by the command, so that its outcome is a metric like any other: a command that a
//! scheduler runs leaves no process to scrape. It repairs nothing: a person decides about that.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    domain::{
        clock::{SharedClock, UnixMillis},
        jitter,
        store::{Call, Lane, StoreError},
        usage::{Hour, Reconciliation, UsageRetention},
    },
    server::{
        ServiceStore,
        readiness::{Readiness, ReadinessState},
    },
};

/// How long one page may take.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// The pause between two attempts at a page that the database did not answer.
const RETRY_DELAY: Duration = Duration::from_secs(60);
/// How often that is tried before the comparison is given up until the next one.
const MAX_FAILURES: u32 = 5;

/// What the last comparison found.
#[derive(Debug, Default)]
pub(crate) struct ReconcileResult {
    differing_totals: AtomicU64,
    finished_at: AtomicI64,
}

impl ReconcileResult {
    /// How many totals differed in the last comparison that came to its end; 0 before the first one.
    pub(crate) fn differing_totals(&self) -> u64 {
        self.differing_totals.load(Ordering::Relaxed)
    }

    /// When that was; 0 before the first one.
    pub(crate) fn finished_at(&self) -> UnixMillis {
        UnixMillis(self.finished_at.load(Ordering::Relaxed))
    }
}

/// Compares all totals.
#[derive(Clone, Debug)]
pub(crate) struct UsageReconciler {
    pub(crate) store: ServiceStore,
    pub(crate) retention: UsageRetention,
    pub(crate) clock: SharedClock,
    pub(crate) result: Arc<ReconcileResult>,
}

impl UsageReconciler {
    /// Compares once per interval from the moment the schema is in place; the first time within one interval of the start.
    pub(crate) async fn run(self, interval: Duration, mut readiness: watch::Receiver<Readiness>) {
        if readiness.wait_for(|now| matches!(now.state, ReadinessState::Ready)).await.is_err() {
            return;
        }
        // At a time of its own, so that replicas do not read all events together.
        let chance = jitter::random_fraction(0.5);
        tokio::time::sleep(interval.mul_f64(chance)).await;
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.compare_totals().await {
                tracing::warn!(%error, "totals of usage could not be compared with their events; the next comparison follows after the interval");
            }
        }
    }

    /// Compares all tenants, page by page: one statement at a time is under way.
    pub(crate) async fn compare_totals(&self) -> Result<(), StoreError> {
        let hours = (self.retention.first_complete_hour(self.clock.now()), Hour::ceil(UnixMillis::MAX));
        let mut reconciliation =
            Reconciliation::start(&self.store, None, hours, self.retention, page_call()).await?;
        let (mut differing, mut failures) = (0, 0);
        loop {
            match reconciliation.next_differences(page_call).await {
                Ok(Some(differences)) => {
                    differing += differences.len() as u64;
                    for difference in differences {
                        tracing::warn!(
                            tenant_id = difference.tenant_id.as_str(),
                            metric = difference.metric.as_str(),
                            hour = difference.hour.start().0,
                            total = difference.total,
                            events = difference.events,
                            "a total of usage is not the sum of its events; see `tenant-auth-svc reconcile`"
                        );
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    failures += 1;
                    if failures == MAX_FAILURES {
                        return Err(error);
                    }
                    tokio::time::sleep(RETRY_DELAY).await;
                }
            }
        }
        self.result.differing_totals.store(differing, Ordering::Relaxed);
        self.result.finished_at.store(self.clock.now().0, Ordering::Relaxed);
        let tenants = reconciliation.compared_tenants();
        tracing::info!(tenants, differing, "totals of usage compared with their events");
        Ok(())
    }
}

fn page_call() -> Call {
    Call::within(Lane::Maintenance, PAGE_TIMEOUT)
}
