//! The task that sends the events of a recorder.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tenant_auth_proto::v1::UsageEvent;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{self, Instant},
};

use super::UnsentUsage;
use crate::{Error, RecordedUsage, call::jittered_backoff};

/// Maximum events of one request that the service accepts.
const MAX_EVENTS_PER_BATCH: usize = 500;
const INITIAL_RETRY_DELAY: Duration = Duration::from_millis(100);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);
/// How long a recorder that was dropped without `close` keeps sending.
const DROP_FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// A message from a recorder to its task.
#[derive(Debug)]
pub(super) enum RecorderMessage {
    /// An event to send.
    Event(UsageEvent),
    /// Send the collected events and report when the service has responded.
    Flush(oneshot::Sender<()>),
}

/// Collects events and sends them in batches.
pub(super) struct BatchSender<S> {
    pub(super) items: mpsc::Receiver<RecorderMessage>,
    pub(super) deadline: watch::Receiver<Option<Instant>>,
    pub(super) longest_wait: Duration,
    pub(super) on_refused: Box<dyn Fn(UnsentUsage) + Send>,
    pub(super) send: S,
    pub(super) pending: PendingEvents,
}

/// Counter of accepted events that are not settled yet. If it is dropped above zero, those events are lost,
/// and this is logged.
pub(super) struct PendingEvents(Arc<AtomicUsize>);

impl PendingEvents {
    pub(super) fn new(events: Arc<AtomicUsize>) -> Self {
        Self(events)
    }

    fn subtract(&self, events: usize) {
        self.0.fetch_sub(events, Ordering::Relaxed);
    }
}

impl Drop for PendingEvents {
    fn drop(&mut self) {
        let events = self.0.load(Ordering::Relaxed);
        if events > 0 {
            tracing::warn!(
                events,
                "usage recorder stopped with its runtime, unsent usage is lost; call close() first"
            );
        }
    }
}

/// The events of one batch.
#[derive(Default)]
struct Batch {
    events: Vec<UsageEvent>,
    flush_ack: Option<oneshot::Sender<()>>,
    is_last: bool,
}

impl<S, F> BatchSender<S>
where
    S: Fn(String, Vec<UsageEvent>) -> F,
    F: Future<Output = Result<RecordedUsage, Error>>,
{
    /// Runs until the recorder is closed or dropped. Returns the events that could not be sent.
    pub(super) async fn run(mut self) -> Vec<UnsentUsage> {
        let mut unsent = Vec::new();
        loop {
            let batch = self.collect().await;
            if !batch.events.is_empty() {
                unsent.extend(self.send_batch(batch.events).await);
            }
            if let Some(flushed) = batch.flush_ack {
                // The flushing caller may have been cancelled.
                let _ = flushed.send(());
            }
            if batch.is_last {
                if !unsent.is_empty() && self.deadline.has_changed().is_err() {
                    let events: usize = unsent.iter().map(|unsent| unsent.events.len()).sum();
                    tracing::error!(events, "usage recorder dropped without close, unsent usage is lost");
                }
                return unsent;
            }
        }
    }

    /// Waits for the first event, then for more until the batch is full or the batch delay has passed.
    async fn collect(&mut self) -> Batch {
        let mut batch = Batch::default();
        let mut due: Option<Instant> = None;
        loop {
            let item = tokio::select! {
                // In this order, because a steady flow of events would otherwise never be sent.
                biased;
                () = sleep_until_some(due) => return batch,
                _ = self.deadline.wait_for(Option::is_some), if !self.items.is_closed() => {
                    // Events that are already in the queue are still received.
                    self.items.close();
                    continue;
                }
                item = self.items.recv() => item,
            };
            match item {
                Some(RecorderMessage::Event(event)) => {
                    due.get_or_insert_with(|| Instant::now() + self.longest_wait);
                    batch.events.push(event);
                    if batch.events.len() == MAX_EVENTS_PER_BATCH {
                        return batch;
                    }
                }
                Some(RecorderMessage::Flush(flushed)) => {
                    batch.flush_ack = Some(flushed);
                    return batch;
                }
                None => {
                    batch.is_last = true;
                    return batch;
                }
            }
        }
    }

    /// Sends a batch until the service has responded or the deadline has passed. In the latter case, returns
    /// the rest.
    ///
    /// A batch that is rejected as a whole is split in halves, so that only the invalid event is refused.
    async fn send_batch(&mut self, events: Vec<UsageEvent>) -> Vec<UnsentUsage> {
        let mut left = vec![UnsentUsage::new(events)];
        let mut unsent = Vec::new();
        while let Some(mut batch) = left.pop() {
            match self.send_until_answered(&mut batch).await {
                Some(Ok(recorded)) => {
                    self.pending.subtract(batch.events.len());
                    self.report_rejected(batch, recorded.rejected);
                }
                Some(Err(Error::Invalid { .. })) if batch.events.len() > 1 => {
                    let second = batch.events.split_off(batch.events.len() / 2);
                    left.extend([UnsentUsage::new(second), UnsentUsage::new(batch.events)]);
                }
                Some(Err(failure)) => {
                    self.pending.subtract(batch.events.len());
                    batch.error = Some(failure);
                    self.notify_refused(batch);
                }
                None => {
                    self.pending.subtract(batch.events.len());
                    unsent.push(batch);
                }
            }
        }
        unsent
    }

    /// Returns the response or a permanent error; `None` if the deadline has passed or the client is closed.
    async fn send_until_answered(&mut self, batch: &mut UnsentUsage) -> Option<Result<RecordedUsage, Error>> {
        for tries in 1.. {
            let sending = (self.send)(batch.request_id.clone(), batch.events.clone());
            let outcome = tokio::select! {
                biased;
                () = close_timeout_elapsed(&mut self.deadline) => return None,
                outcome = sending => outcome,
            };
            let failure = match outcome {
                Ok(recorded) => return Some(Ok(recorded)),
                Err(failure) if is_permanent(&failure) => return Some(Err(failure)),
                Err(failure) => failure,
            };
            let is_closed = failure == Error::Closed;
            let backoff = jittered_backoff(INITIAL_RETRY_DELAY, MAX_RETRY_DELAY, tries);
            let delay = failure.retry_after().unwrap_or_default().saturating_add(backoff);
            batch.error = Some(failure);
            if is_closed {
                return None;
            }
            tokio::select! {
                biased;
                () = close_timeout_elapsed(&mut self.deadline) => return None,
                () = time::sleep(delay) => {}
            }
        }
        None
    }

    fn report_rejected(&self, sent: UnsentUsage, rejected: Vec<(usize, Error)>) {
        for (index, error) in rejected {
            self.notify_refused(UnsentUsage {
                request_id: sent.request_id.clone(),
                events: sent.events.get(index).cloned().into_iter().collect(),
                error: Some(error),
            });
        }
    }

    /// A panic in the user's callback must not end this task and lose the other events.
    fn notify_refused(&self, rejected: UnsentUsage) {
        if catch_unwind(AssertUnwindSafe(|| (self.on_refused)(rejected))).is_err() {
            tracing::error!("RecorderSettings::on_refused panicked");
        }
    }
}

/// Returns whether the service will never accept it. Other errors can be fixed: a token, a permission, a
/// version.
fn is_permanent(error: &Error) -> bool {
    matches!(
        error,
        Error::Invalid { .. }
            | Error::NotFound { .. }
            | Error::AlreadyExists { .. }
            | Error::FailedPrecondition { .. }
    )
}

async fn sleep_until_some(moment: Option<Instant>) {
    match moment {
        Some(moment) => time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Waits until the close timeout of the recorder has elapsed.
async fn close_timeout_elapsed(deadline: &mut watch::Receiver<Option<Instant>>) {
    let deadline = match deadline.wait_for(Option::is_some).await {
        Ok(deadline) => *deadline,
        // The recorder was dropped without `close`.
        Err(_) => Some(Instant::now() + DROP_FLUSH_TIMEOUT),
    };
    sleep_until_some(deadline).await;
}
