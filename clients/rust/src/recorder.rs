//! Records usage in the background: in batches, each of which is sent until the service responds.

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
#[cfg(feature = "mcp")]
pub(crate) use self::event::check_metric;
use crate::{Client, Error, RecordedUsage, Violation, options};

const DEFAULT_CAPACITY: usize = 10_000;
const DEFAULT_BATCH_DELAY: Duration = Duration::from_secs(1);
/// Some platforms cannot wait longer.
const MAX_CLOSE_TIMEOUT: Duration = Duration::from_secs(86_400);

/// Collects usage events and sends them in batches: at most 500 events, at most 1 s after the first. Clones
/// share it.
///
/// A batch is sent with the same request id and the same events until the service has responded, so it is
/// counted once even if a response is lost. Call [`Self::close`] at the end: a recorder that is only dropped
/// sends its remaining events for at most 5 s while its runtime lives, and logs how many events are lost.
#[derive(Clone, Debug)]
pub struct UsageRecorder {
    queue: mpsc::Sender<RecorderMessage>,
    close_state: Arc<CloseState>,
}

#[derive(Debug)]
struct CloseState {
    /// Until when to keep sending, once the recorder is closed.
    deadline: watch::Sender<Option<Instant>>,
    task: Mutex<Option<JoinHandle<Vec<UnsentUsage>>>>,
    /// Events that were accepted and not settled yet.
    pending: Arc<AtomicUsize>,
}

/// The reason why an event was not accepted.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotRecorded {
    /// The event breaks the contract, so the service could never count it.
    #[error("invalid usage event: {0}")]
    Invalid(Violation),
    /// The recorder holds as many events as its capacity allows.
    #[error("the recorder is full: too many events are waiting to be sent")]
    Full,
    /// The recorder was closed.
    #[error("the recorder is closed")]
    Closed,
}

/// Events that are not known to be recorded.
///
/// An attempt without a response may have recorded them: send them again with the same request id, or not at
/// all.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct UnsentUsage {
    /// The request id that they were, or would have been, sent with.
    pub request_id: String,
    /// 1 to 500 events.
    pub events: Vec<UsageEvent>,
    /// The last error; `None` if they were not sent yet.
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
    /// Returns the defaults: at most 10,000 waiting events, a batch delay of at most 1 s; refused events are
    /// logged.
    pub fn new() -> Self {
        let log = |rejected: UnsentUsage| {
            let error = rejected.error.as_ref().map(ToString::to_string);
            tracing::warn!(
                events = rejected.events.len(),
                error,
                "usage rejected by the service; it is not counted"
            );
        };
        Self { capacity: DEFAULT_CAPACITY, longest_wait: DEFAULT_BATCH_DELAY, on_refused: Box::new(log) }
    }

    /// Sets how many events may wait to be sent, 1 to 10 million; beyond it, [`NotRecorded::Full`] is
    /// returned.
    pub fn capacity(mut self, events: usize) -> Self {
        self.capacity = events;
        self
    }

    /// Sets the batch delay, the maximum time that an event waits for others; 24 h at most.
    pub fn longest_wait(mut self, time: Duration) -> Self {
        self.longest_wait = time;
        self
    }

    /// Sets what to do with events that the service will never count, such as those of a tenant that does not
    /// exist.
    pub fn on_refused(mut self, callback: impl Fn(UnsentUsage) + Send + 'static) -> Self {
        self.on_refused = Box::new(callback);
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
    /// [`Error::Setup`] if a setting is invalid.
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
        let (deadline, deadline_receiver) = watch::channel(None);
        let pending = Arc::new(AtomicUsize::new(0));
        let batches = BatchSender {
            items,
            deadline: deadline_receiver,
            longest_wait: settings.longest_wait,
            on_refused: settings.on_refused,
            send,
            pending: PendingEvents::new(Arc::clone(&pending)),
        };
        let task = Mutex::new(Some(tokio::spawn(batches.run())));
        Self { queue, close_state: Arc::new(CloseState { deadline, task, pending }) }
    }

    /// Records an event that happens now: a quantity of a metric, in the unit of the metric.
    ///
    /// # Errors
    /// If the event was not accepted. It is never dropped silently.
    pub fn record(&self, tenant_id: &str, metric: &str, quantity: i64) -> Result<(), NotRecorded> {
        // The time is set here, because the event may arrive after an outage.
        self.record_at(tenant_id, metric, quantity, SystemTime::now())
    }

    /// Records an event that happened at `at`.
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
        // Counted before the event can be settled.
        self.close_state.pending.fetch_add(1, Ordering::Relaxed);
        self.queue.try_send(RecorderMessage::Event(event)).map_err(|error| {
            self.close_state.pending.fetch_sub(1, Ordering::Relaxed);
            match error {
                mpsc::error::TrySendError::Full(_) => NotRecorded::Full,
                mpsc::error::TrySendError::Closed(_) => NotRecorded::Closed,
            }
        })
    }

    /// Sends the waiting events now, and waits until the service has responded.
    ///
    /// # Errors
    /// [`NotRecorded::Closed`] if the recorder was closed meanwhile.
    pub async fn flush(&self) -> Result<(), NotRecorded> {
        let (done, done_receiver) = oneshot::channel();
        self.queue.send(RecorderMessage::Flush(done)).await.map_err(|_| NotRecorded::Closed)?;
        done_receiver.await.map_err(|_| NotRecorded::Closed)
    }

    /// Accepts no more events, sends the waiting ones for at most `timeout`, and returns those that could not
    /// be sent.
    ///
    /// Returns nothing if another clone was closed before.
    pub async fn close(self, timeout: Duration) -> Vec<UnsentUsage> {
        let task = self.close_state.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.close_state.deadline.send_replace(Some(Instant::now() + timeout.min(MAX_CLOSE_TIMEOUT)));
        match task {
            // A task that was cancelled with its runtime has logged how many events were lost.
            Some(task) => task.await.unwrap_or_default(),
            None => Vec::new(),
        }
    }
}
