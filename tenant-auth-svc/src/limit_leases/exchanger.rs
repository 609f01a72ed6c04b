//! The task that exchanges leases with the database.
//!
//! At most one exchange is under way. If its outcome is unknown, the same exchange is repeated until it is known: the database
//! recognises it.

mod batch;

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{sync::oneshot, task::JoinHandle, time::Instant};

use self::batch::Batch;
use super::{LimitDatabase, LimitLeases, lock};
use crate::domain::{
    clock::Moment,
    condition::Condition,
    limit::{Exchange, ExchangeResponse, LeaseGrant, LeaseRequest, LimitRule, counter::LimitCounter},
    store::{Call, FailureKind, Lane, StoreError},
};

/// The shortest time between the starts of two exchanges.
const TICK: Duration = Duration::from_millis(50);
/// How often counters in use are looked at.
const SCAN_INTERVAL: Duration = Duration::from_millis(250);
/// The first and the longest pause before a failed exchange is repeated.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// After this time without a response, callers no longer wait for it.
const SLOW_EXCHANGE: Duration = Duration::from_secs(1);
/// Time limit of one exchange; the database client times out earlier.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(60);
/// After this time, the database may no longer recognise a repeated exchange. What it reported is then counted as used.
const MAX_EXCHANGE_AGE: Duration = Duration::from_secs(5 * 60);

/// The running task.
#[derive(Debug)]
pub struct LeaseExchanger {
    task: JoinHandle<()>,
    stop: Option<oneshot::Sender<()>>,
}

impl LeaseExchanger {
    /// Starts to exchange leases.
    pub fn start<S: LimitDatabase>(leases: LimitLeases<S>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(
            ExchangeTask { leases, active: Vec::new(), last_start: None, last_scan: Instant::now(), seq: 0 }
                .run(stopped),
        );
        Self { task, stop: Some(stop) }
    }

    /// Gives all leases back, within a time. What is not given back stays counted.
    pub async fn drain(&mut self, timeout: Duration) {
        drop(self.stop.take());
        // On a timeout, the leases stay counted, as after a crash.
        let _ = tokio::time::timeout(timeout, &mut self.task).await;
    }
}

impl Drop for LeaseExchanger {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct ExchangeTask<S> {
    leases: LimitLeases<S>,
    /// The counters that hold something or are waited for.
    active: Vec<Arc<LimitCounter>>,
    last_start: Option<Instant>,
    last_scan: Instant,
    /// The number of the next exchange: it rises for all counters alike, so that one that was forgotten and comes back does not
    /// repeat a number.
    seq: i64,
}

impl<S: LimitDatabase> ExchangeTask<S> {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut is_stopping = false;
        loop {
            tokio::select! {
                // The sender is dropped.
                _ = &mut stopped, if !is_stopping => is_stopping = true,
                () = self.until_due(), if !is_stopping => {}
                else => {}
            }
            let mut batch = self.next_batch(is_stopping);
            if !batch.is_empty() {
                self.last_start = Some(Instant::now());
                self.complete(&mut batch).await;
            }
            if is_stopping && batch.is_empty() {
                return;
            }
        }
    }

    /// Waits until something is due, or until it is time to look at the active counters.
    async fn until_due(&self) {
        let shared = &self.leases.0;
        let has_work = || !lock(&shared.due).is_empty() || !lock(&shared.operations).is_empty();
        let tick = async {
            if let Some(start) = self.last_start {
                tokio::time::sleep_until(start + TICK).await;
            }
        };
        if has_work() {
            return tick.await;
        }
        tokio::select! {
            () = shared.wake.notified() => tick.await,
            () = tokio::time::sleep_until(self.last_scan + SCAN_INTERVAL), if !self.active.is_empty() => {}
        }
    }

    /// Collects what is due; with `is_stopping`, everything is given back.
    fn next_batch(&mut self, is_stopping: bool) -> Batch {
        let shared = &self.leases.0;
        let now = Moment::now(&shared.clock);
        self.seq += 1;
        let due = std::mem::take(&mut *lock(&shared.due));
        let mut batch = Batch::new(shared.known_log.load(Ordering::Acquire));
        let is_scan_due = is_stopping || self.last_scan.elapsed() >= SCAN_INTERVAL;
        let mut counters = due;
        if is_scan_due {
            self.last_scan = Instant::now();
            counters.append(&mut self.active);
        }
        // A counter that became due during its scan is on both lists.
        counters.sort_unstable_by_key(Arc::as_ptr);
        counters.dedup_by_key(|counter| Arc::as_ptr(counter));
        for counter in counters {
            if batch.is_full() {
                lock(&shared.due).push(counter);
                continue;
            }
            let planned = counter.plan(now, self.seq, is_stopping);
            for request in planned.requests {
                batch.add_lease(Arc::clone(&counter), request);
            }
            if !planned.is_idle {
                self.active.push(counter);
            }
        }
        if !is_scan_due {
            self.active.sort_unstable_by_key(Arc::as_ptr);
            self.active.dedup_by_key(|counter| Arc::as_ptr(counter));
        }
        let mut operations = lock(&shared.operations);
        while let Some(operation) = (!batch.is_full()).then(|| operations.pop_front()).flatten() {
            if operation.is_abandoned() {
                operation.resolve(false);
            } else {
                batch.add_operation(operation);
            }
        }
        batch
    }

    /// Sends a batch until its outcome is known, or cannot become known.
    async fn complete(&self, batch: &mut Batch) {
        let shared = &self.leases.0;
        let started = Instant::now();
        let asked = Moment::now(&shared.clock);
        let mut pause = RETRY_PAUSES.0;
        loop {
            let sent = Instant::now();
            batch.exchange.known_log = shared.known_log.load(Ordering::Acquire);
            let response = self.send(&batch.exchange).await;
            match response {
                Ok(response) => {
                    shared.counts.count_exchange(&batch.exchange, sent.elapsed());
                    self.apply(batch, asked, &response);
                    self.set_down(None);
                    return;
                }
                Err(error) => {
                    shared.counts.count_failed_exchange();
                    self.set_down(Some(&error));
                    batch.exchange.is_repeated = true;
                    if started.elapsed() >= MAX_EXCHANGE_AGE {
                        batch.abandon();
                        return;
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_PAUSES.1);
        }
    }

    /// Sends an exchange. If there is no response for a while, callers go on without it.
    async fn send(&self, exchange: &Exchange) -> Result<ExchangeResponse, StoreError> {
        let shared = &self.leases.0;
        let call = Call::within(Lane::Limits, EXCHANGE_TIMEOUT);
        let mut response = pin!(shared.store.exchange(call, &shared.holder, exchange));
        match tokio::time::timeout(SLOW_EXCHANGE, &mut response).await {
            Ok(response) => response,
            Err(_) => {
                shared.counts.count_failed_exchange();
                self.set_down(Some(&slow_error()));
                response.await
            }
        }
    }

    fn apply(&self, batch: &mut Batch, asked: Moment, response: &ExchangeResponse) {
        let shared = &self.leases.0;
        shared.known_log.fetch_max(response.log, Ordering::AcqRel);
        let received = Moment::now(&shared.clock);
        for ((counter, request), grant) in batch.leases.drain(..).zip(&response.grants) {
            let is_current = counter.apply(&request, grant.as_ref(), (asked, received), response.now);
            if !is_current && request.need + request.want > 0 {
                shared.invalidate(Some(&counter.key.tenant_id));
            }
            if grant.is_some_and(|grant| is_starved(&counter, &request, &grant)) {
                shared.counts.count_starved();
            }
        }
        for counter in batch.answer_operations(response) {
            shared.make_due(&counter);
        }
    }

    /// Notes the outcome of an exchange, and lets all who wait look again.
    fn set_down(&self, error: Option<&StoreError>) {
        let shared = &self.leases.0;
        let failure = error.map(|error| error.kind);
        let mut condition = lock(&shared.condition);
        *condition = Some(Condition::after_call(*condition, failure, Moment::now(&shared.clock)));
        drop(condition);
        let was_down = shared.is_down.swap(error.is_some(), Ordering::AcqRel);
        match error {
            Some(error) if !was_down => {
                tracing::warn!(%error, "leases of limits cannot be exchanged; decisions are made from what is held");
            }
            None if was_down => tracing::info!("leases of limits are exchanged again"),
            Some(_) | None => {}
        }
        if failure == Some(FailureKind::Untrusted) {
            shared.report_all();
        }
        shared.progress.send_modify(|progress| progress.exchanges += 1);
    }
}

fn slow_error() -> StoreError {
    StoreError::new(FailureKind::TimedOut, "an exchange of leases has had no response for a second")
}

/// Whether callers were denied what other replicas held. Of a rate, that is not distinct from its being exceeded: each replica
/// always holds a part of the bucket.
fn is_starved(counter: &LimitCounter, request: &LeaseRequest, grant: &LeaseGrant) -> bool {
    grant.granted < request.need
        && grant.others > 0
        && !matches!(counter.lock().limit().rule, LimitRule::Rate(_))
}
