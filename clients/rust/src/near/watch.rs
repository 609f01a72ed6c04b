//! The task that reads the invalidation stream of the service.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use tenant_auth_proto::v1::{
    InvalidationScope, WatchRequest, WatchResponse, watch_response::Event,
    watch_service_client::WatchServiceClient,
};
use tokio::{
    task::JoinHandle,
    time::{self, error::Elapsed},
};
use tonic::{Code, Status};

use super::{AnswerCache, ChangeSubject, liveness::LIVENESS_TIMEOUT};
use crate::{
    call::{jittered_backoff, parse_time},
    transport::{Route, Transport},
};

/// Delay before the first reconnect; it doubles with each failure.
const INITIAL_RECONNECT_DELAY: Duration = Duration::from_millis(100);
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(5);
/// A service without the stream may be replaced by one that implements it.
const UNIMPLEMENTED_RETRY_DELAY: Duration = Duration::from_secs(60);
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// A replica without events for this long is pinged. If it does not respond, another replica takes over
/// before the stream counts as broken.
const PING_DELAY: Duration = Duration::from_millis(1_500);

/// The task that reads the stream. It ends with the client.
#[derive(Debug)]
pub(crate) struct WatchTask(JoinHandle<()>);

impl WatchTask {
    /// Must be called within a Tokio runtime.
    pub(crate) fn spawn(cache: Arc<AnswerCache>, transport: Transport) -> Self {
        Self(tokio::spawn(run_watch(cache, transport)))
    }
}

impl WatchTask {
    pub(crate) fn stop(&self) {
        self.0.abort();
    }
}

impl Drop for WatchTask {
    fn drop(&mut self) {
        self.stop();
    }
}

/// How a stream ended.
enum StreamEnd {
    /// The service does not implement the stream.
    Unimplemented,
    /// The stream failed before the first event.
    NoEvents,
    /// The stream failed later.
    Broken,
}

async fn run_watch(cache: Arc<AnswerCache>, transport: Transport) {
    let mut failures = 0;
    let mut last = None;
    loop {
        let route = Arc::new(Route::avoiding(last));
        let end = read_stream(&cache, &transport, &route).await;
        // From now on, changes may not be announced.
        cache.guards.set_live(false);
        last = route.connection().map(|connection| connection.replica_id());
        let delay = match end {
            StreamEnd::Unimplemented => UNIMPLEMENTED_RETRY_DELAY,
            StreamEnd::NoEvents => {
                failures += 1;
                jittered_backoff(INITIAL_RECONNECT_DELAY, MAX_RECONNECT_DELAY, failures)
            }
            StreamEnd::Broken => {
                failures = 0;
                jittered_backoff(INITIAL_RECONNECT_DELAY, MAX_RECONNECT_DELAY, failures)
            }
        };
        time::sleep(delay).await;
    }
}

async fn read_stream(cache: &AnswerCache, transport: &Transport, route: &Arc<Route>) -> StreamEnd {
    let resume_after_revision = cache.liveness.revision();
    if resume_after_revision == 0 {
        // There is no revision to resume from: changes since then are not announced.
        cache.liveness.mark_broken();
    }
    let mut rpc = WatchServiceClient::new(transport.routed(Arc::clone(route)));
    let opening = rpc.watch(WatchRequest { resume_after_revision });
    let mut stream = match timeout_with_ping(OPEN_TIMEOUT, opening, route).await {
        Ok(Ok(reply)) => reply.into_inner(),
        Ok(Err(status)) => return classify_status(&status),
        Err(_) => return StreamEnd::NoEvents,
    };
    let mut end = StreamEnd::NoEvents;
    loop {
        match timeout_with_ping(LIVENESS_TIMEOUT, stream.message(), route).await {
            Ok(Ok(Some(event))) => cache.apply_event(event),
            Ok(Err(status)) if matches!(end, StreamEnd::NoEvents) => return classify_status(&status),
            Ok(Ok(None) | Err(_)) | Err(_) => return end,
        }
        end = StreamEnd::Broken;
    }
}

/// Waits for `limit` at most. If nothing arrives for [`PING_DELAY`], the replica is pinged meanwhile.
async fn timeout_with_ping<T>(
    limit: Duration,
    future: impl Future<Output = T>,
    route: &Route,
) -> Result<T, Elapsed> {
    let mut future = pin!(future);
    if let Ok(outcome) = time::timeout(PING_DELAY, future.as_mut()).await {
        return Ok(outcome);
    }
    if let Some(connection) = route.connection() {
        connection.ping();
    }
    time::timeout(limit - PING_DELAY, future).await
}

fn classify_status(status: &Status) -> StreamEnd {
    if status.code() == Code::Unimplemented {
        tracing::debug!("invalidation stream not implemented by the service; answers are cached without it");
        return StreamEnd::Unimplemented;
    }
    tracing::debug!(code = ?status.code(), "invalidation stream could not be opened");
    StreamEnd::NoEvents
}

impl AnswerCache {
    /// Applies an event. The heartbeat is recorded last: answers count as covered only after the event is
    /// applied.
    pub(super) fn apply_event(&self, event: WatchResponse) {
        let revision = event.revision;
        match event.event {
            Some(Event::Invalidation(change)) => match change.scope() {
                InvalidationScope::Key => self.invalidate(ChangeSubject::Key(change.id), revision),
                InvalidationScope::Tenant => self.invalidate(ChangeSubject::Tenant(change.id), revision),
                InvalidationScope::Session => self.invalidate(ChangeSubject::Session(change.id), revision),
                // A scope of a later version: it may concern any entry.
                InvalidationScope::Unspecified => self.reset(revision),
            },
            Some(Event::StartOver(_)) => self.reset(revision),
            Some(Event::Heartbeat(heartbeat)) => {
                if let Some(sent_at) = heartbeat.sent_at.and_then(|time| parse_time(time).ok()) {
                    self.guards.set_server_time(sent_at);
                }
            }
            None => self.reset(revision),
        }
        self.record_heartbeat(revision);
    }
}
