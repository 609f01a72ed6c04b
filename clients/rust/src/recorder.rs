//! Usage, recorded behind the caller's back: in batches, each sent until it is answered.

mod batch_sender;
mod event;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use tenant_auth_proto::v1::UsageEvent;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::Instant,
};
use uuid::Uuid;

use self::batch_sender::{BatchSender, PendingEvents, RecorderMessage};
use crate::{Client, Error, RecordedUsage, Violation, options};

const DEFAULT_CAPACITY: usize = 10_000;
const DEFAULT_BATCH_DELAY: Duration = Duration::from_secs(1);
/// More cannot be waited for everywhere.
const MAX_CLOSE_TIMEOUT: Duration = Duration::from_secs(86_400);

/// Collects events and sends them in batches: of 500 at most, 1 s after the first at most. Clones share it.
///
/// A batch is sent with one request id and the same events until the service has answered, so it is counted once,
/// whatever is lost in between. [`Self::close`] it at the end: one that is only dropped sends what is left for 5 s at
/// most, as long as its runtime lives, and logs how many events are lost.
#[derive(Clone, Debug)]
pub struct UsageRecorder {
    queue: mpsc::Sender<RecorderMessage>,
    close_state: Arc<CloseState>,
}

#[derive(Debug)]
struct CloseState {
    /// Until when to go on trying, once it is closed.
    deadline: watch::Sender<Option<Instant>>,
    task: Mutex<Option<JoinHandle<Vec<UnsentUsage>>>>,
    /// Events that were taken and not settled yet.
    pending: Arc<AtomicUsize>,
}

/// Why an event was not taken.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotRecorded {
    /// The service could never count it.
    #[error("the event cannot be counted: {0}")]
    Invalid(Violation),
    /// As many events as may wait are waiting to be sent.
    #[error("too many events wait to be sent")]
    Full,
    /// The recorder was closed.
    #[error("the recorder is closed")]
    Closed,
}

/// Events that are not known to be recorded.
///
/// An attempt whose answer was lost may have recorded them: send them again with the same request id, or not at all.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct UnsentUsage {
    /// The id that they were, or would have been, sent with.
    pub request_id: String,
    /// Between 1 and 500.
    pub events: Vec<UsageEvent>,
    /// What was last said about them; `None` when they were not sent yet.
    pub error: Option<Error>,
}

impl UnsentUsage {
    fn new(events: Vec<UsageEvent>) -> Self {
        Self { request_id: Uuid::now_v7().to_string(), events, error: None }
    }
}

/// Settings of a [`UsageRecorder`].
#[must_use]
pub struct RecorderSettings {
    capacity: usize,
    longest_wait: Duration,
    on_refused: Box<dyn Fn(UnsentUsage) + Send>,
}

impl RecorderSettings {
    /// 10,000 events wait at most, 1 s at most; what can never be counted is logged.
    pub fn new() -> Self {
        let log = |refused: UnsentUsage| {
            let error = refused.error.as_ref().map(ToString::to_string);
            tracing::warn!(events = refused.events.len(), error, "usage was refused and is not counted");
        };
        Self { capacity: DEFAULT_CAPACITY, longest_wait: DEFAULT_BATCH_DELAY, on_refused: Box::new(log) }
    }

    /// How many events may wait to be sent, 1 to 10 million; beyond it [`NotRecorded::Full`].
    pub fn capacity(mut self, events: usize) -> Self {
        self.capacity = events;
        self
    }

    /// How long an event waits for others, 24 h at most.
    pub fn longest_wait(mut self, time: Duration) -> Self {
        self.longest_wait = time;
        self
    }

    /// What to do with events that can never be counted, such as those of a tenant that does not exist.
    pub fn on_refused(mut self, act: impl Fn(UnsentUsage) + Send + 'static) -> Self {
        self.on_refused = Box::new(act);
        self
    }
}

impl Default for RecorderSettings {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RecorderSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecorderSettings")
            .field("capacity", &self.capacity)
            .field("longest_wait", &self.longest_wait)
            .finish_non_exhaustive()
    }
}

impl UsageRecorder {
    /// Starts a recorder. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::Setup`] when a setting cannot be used.
    pub fn start(client: Client, settings: RecorderSettings) -> Result<Self, Error> {
        options::check_count("RecorderSettings::capacity", settings.capacity)?;
        options::check_duration("RecorderSettings::longest_wait", settings.longest_wait)?;
        let send = move |request_id: String, events| {
            let client = client.clone();
            async move { client.record_usage(&request_id, events).await }
        };
        Ok(Self::with_sender(settings, send))
    }

    fn with_sender<F>(
        settings: RecorderSettings,
        send: impl Fn(String, Vec<UsageEvent>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<RecordedUsage, Error>> + Send + 'static,
    {
        let (queue, items) = mpsc::channel(settings.capacity);
        let (deadline, ends) = watch::channel(None);
        let pending = Arc::new(AtomicUsize::new(0));
        let batches = BatchSender {
            items,
            deadline: ends,
            longest_wait: settings.longest_wait,
            on_refused: settings.on_refused,
            send,
            pending: PendingEvents::new(Arc::clone(&pending)),
        };
        let task = Mutex::new(Some(tokio::spawn(batches.run())));
        Self { queue, close_state: Arc::new(CloseState { deadline, task, pending }) }
    }

    /// Takes an event that happens now: so much of a metric, in the metric's own unit.
    ///
    /// # Errors
    /// When the event was not taken. It is never dropped silently.
    pub fn record(&self, tenant_id: &str, metric: &str, quantity: i64) -> Result<(), NotRecorded> {
        // Not "on arrival": it may arrive after an outage.
        self.record_at(tenant_id, metric, quantity, SystemTime::now())
    }

    /// Takes an event that happened then.
    ///
    /// # Errors
    /// As for [`Self::record`].
    pub fn record_at(
        &self,
        tenant_id: &str,
        metric: &str,
        quantity: i64,
        at: SystemTime,
    ) -> Result<(), NotRecorded> {
        let event = event::checked_event(tenant_id, metric, quantity, at).map_err(NotRecorded::Invalid)?;
        // Counted before it can be settled.
        self.close_state.pending.fetch_add(1, Ordering::Relaxed);
        self.queue.try_send(RecorderMessage::Event(event)).map_err(|error| {
            self.close_state.pending.fetch_sub(1, Ordering::Relaxed);
            match error {
                mpsc::error::TrySendError::Full(_) => NotRecorded::Full,
                mpsc::error::TrySendError::Closed(_) => NotRecorded::Closed,
            }
        })
    }

    /// Sends what waits now, and waits until it was answered.
    ///
    /// # Errors
    /// [`NotRecorded::Closed`] when the recorder was closed meanwhile.
    pub async fn flush(&self) -> Result<(), NotRecorded> {
        let (done, answered) = oneshot::channel();
        self.queue.send(RecorderMessage::Flush(done)).await.map_err(|_| NotRecorded::Closed)?;
        answered.await.map_err(|_| NotRecorded::Closed)
    }

    /// Takes no more events, sends those that wait for at most `patience`, and gives back what could not be sent.
    ///
    /// Gives nothing when another clone was closed before.
    pub async fn close(self, patience: Duration) -> Vec<UnsentUsage> {
        let task = self.close_state.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.close_state.deadline.send_replace(Some(Instant::now() + patience.min(MAX_CLOSE_TIMEOUT)));
        match task {
            // One that was ended with its runtime has said what was lost.
            Some(task) => task.await.unwrap_or_default(),
            None => Vec::new(),
        }
    }
}
