//! The task behind a recorder.

use std::{future::Future, time::Duration};

use tenant_auth_proto::v1::UsageEvent;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{self, Instant},
};
use uuid::Uuid;

use super::UnsentUsage;
use crate::{Error, RecordedUsage, call::jittered};

/// What the service takes at once.
const MOST_EVENTS: usize = 500;
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How long one that was dropped without being closed goes on.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a recorder tells its task.
#[derive(Debug)]
pub(super) enum Item {
    /// An event to send.
    Event(UsageEvent),
    /// Send what is there and say when it was answered.
    Flush(oneshot::Sender<()>),
}

/// Collects events and sends them.
pub(super) struct Batches<S> {
    items: mpsc::Receiver<Item>,
    deadline: watch::Receiver<Option<Instant>>,
    longest_wait: Duration,
    on_refused: Box<dyn Fn(UnsentUsage) + Send>,
    send: S,
}

/// What was collected.
#[derive(Default)]
struct Batch {
    events: Vec<UsageEvent>,
    flushed: Option<oneshot::Sender<()>>,
    is_last: bool,
}

impl<S, F> Batches<S>
where
    S: Fn(String, Vec<UsageEvent>) -> F,
    F: Future<Output = Result<RecordedUsage, Error>>,
{
    pub(super) fn new(
        items: mpsc::Receiver<Item>,
        deadline: watch::Receiver<Option<Instant>>,
        longest_wait: Duration,
        on_refused: Box<dyn Fn(UnsentUsage) + Send>,
        send: S,
    ) -> Self {
        Self { items, deadline, longest_wait, on_refused, send }
    }

    /// Runs until the recorder is closed or dropped. Gives back what could not be sent.
    pub(super) async fn run(mut self) -> Vec<UnsentUsage> {
        let mut unsent = Vec::new();
        loop {
            let batch = self.collect().await;
            if !batch.events.is_empty() {
                unsent.extend(self.deliver(batch.events).await);
            }
            if let Some(flushed) = batch.flushed {
                // Whoever flushed may have left.
                let _ = flushed.send(());
            }
            if batch.is_last {
                if !unsent.is_empty() && self.deadline.has_changed().is_err() {
                    let events: usize = unsent.iter().map(|unsent| unsent.events.len()).sum();
                    tracing::error!(events, "a recorder was dropped before its usage was sent");
                }
                return unsent;
            }
        }
    }

    /// Waits for the first event, and then for more until there are enough or the time is up.
    async fn collect(&mut self) -> Batch {
        let mut batch = Batch::default();
        let mut due: Option<Instant> = None;
        loop {
            let item = tokio::select! {
                // In this order, or a steady flow of events would never be sent.
                biased;
                () = until(due) => return batch,
                _ = self.deadline.wait_for(Option::is_some), if !self.items.is_closed() => {
                    // What is in the queue still comes out of it.
                    self.items.close();
                    continue;
                }
                item = self.items.recv() => item,
            };
            match item {
                Some(Item::Event(event)) => {
                    due.get_or_insert_with(|| Instant::now() + self.longest_wait);
                    batch.events.push(event);
                    if batch.events.len() == MOST_EVENTS {
                        return batch;
                    }
                }
                Some(Item::Flush(flushed)) => {
                    batch.flushed = Some(flushed);
                    return batch;
                }
                None => {
                    batch.is_last = true;
                    return batch;
                }
            }
        }
    }

    /// Sends a batch until it is answered or the time is up. Gives it back in the latter case.
    async fn deliver(&mut self, events: Vec<UsageEvent>) -> Option<UnsentUsage> {
        let mut unsent = UnsentUsage { request_id: Uuid::now_v7().to_string(), events, error: None };
        for tries in 1.. {
            let sending = (self.send)(unsent.request_id.clone(), unsent.events.clone());
            let outcome = tokio::select! {
                biased;
                () = given_up(&mut self.deadline) => break,
                outcome = sending => outcome,
            };
            let failure = match outcome {
                Ok(recorded) => {
                    self.refuse(unsent, recorded.rejected);
                    return None;
                }
                Err(failure) if is_lasting(&failure) => {
                    unsent.error = Some(failure);
                    (self.on_refused)(unsent);
                    return None;
                }
                Err(failure) => failure,
            };
            let wait = failure.retry_after().unwrap_or_default() + jittered(FIRST_WAIT, LONGEST_WAIT, tries);
            unsent.error = Some(failure);
            tokio::select! {
                biased;
                () = given_up(&mut self.deadline) => break,
                () = time::sleep(wait) => {}
            }
        }
        Some(unsent)
    }

    fn refuse(&self, sent: UnsentUsage, rejected: Vec<(usize, Error)>) {
        for (place, error) in rejected {
            (self.on_refused)(UnsentUsage {
                request_id: sent.request_id.clone(),
                events: sent.events.get(place).cloned().into_iter().collect(),
                error: Some(error),
            });
        }
    }
}

/// Whether the service will never take it. Everything else may be set right: a token, a permission, a version.
fn is_lasting(error: &Error) -> bool {
    matches!(
        error,
        Error::Invalid { .. }
            | Error::NotFound { .. }
            | Error::AlreadyExists { .. }
            | Error::FailedPrecondition { .. }
    )
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Waits until the recorder's patience is over.
async fn given_up(deadline: &mut watch::Receiver<Option<Instant>>) {
    let deadline = match deadline.wait_for(Option::is_some).await {
        Ok(deadline) => *deadline,
        // Nobody is left to close it.
        Err(_) => Some(Instant::now() + PATIENCE),
    };
    until(deadline).await;
}
