//! Compares usage totals with their events while the service runs.
//!
//! The service makes this comparison, and not only the command `reconcile`, so that its result is a metric: a
//! scheduled command leaves no process to scrape. It repairs nothing: an operator decides about that.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use super::readiness::{Readiness, until_ready};
use crate::{
    domain::{
        clock::{SharedClock, UnixMillis},
        jitter,
        store::{Call, Lane, StoreError},
        usage::{Hour, Reconciliation, UsageRetention},
    },
    service_types::ServiceStore,
};

/// Timeout of one page.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// Delay before a page is retried after a failed database call.
const RETRY_DELAY: Duration = Duration::from_secs(60);
/// Number of failures after which the comparison is abandoned until the next one.
const MAX_FAILURES: u32 = 5;

/// The result of the last comparison.
#[derive(Debug, Default)]
pub(crate) struct ReconcileResult {
    differing_totals: AtomicU64,
    finished_at: AtomicI64,
}

impl ReconcileResult {
    /// Number of totals that differed in the last completed comparison; 0 before the first one.
    pub(crate) fn differing_totals(&self) -> u64 {
        self.differing_totals.load(Ordering::Relaxed)
    }

    /// When the last comparison completed; 0 before the first one.
    pub(crate) fn finished_at(&self) -> UnixMillis {
        UnixMillis(self.finished_at.load(Ordering::Relaxed))
    }
}

/// Compares all totals with their events.
#[derive(Clone, Debug)]
pub(crate) struct UsageReconciler {
    pub(crate) store: ServiceStore,
    pub(crate) retention: UsageRetention,
    pub(crate) clock: SharedClock,
    pub(crate) result: Arc<ReconcileResult>,
}

impl UsageReconciler {
    /// Compares once per interval from the time the schema is ready; the first time within one interval of the start.
    pub(crate) async fn run(self, interval: Duration, mut readiness: watch::Receiver<Readiness>) {
        if !until_ready(&mut readiness).await {
            return;
        }
        // At a random time, so that replicas do not read all events at the same time.
        let fraction = jitter::random_fraction(0.5);
        tokio::time::sleep(interval.mul_f64(fraction)).await;
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.compare_totals().await {
                tracing::warn!(%error, "usage totals could not be compared with their events; the next comparison runs after the interval");
            }
        }
    }

    /// Compares all tenants, page by page: one statement is in flight at a time.
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
                            "a usage total differs from the sum of its events; see `tenant-auth-svc reconcile`"
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
        tracing::info!(tenants, differing, "usage totals compared with their events");
        Ok(())
    }
}

fn page_call() -> Call {
    Call::within(Lane::Maintenance, PAGE_TIMEOUT)
}
