//! Listens to the service's invalidations.

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
    call::jittered_backoff,
    transport::{Route, Transport},
};

/// Before the first attempt to connect again; it doubles with each that fails.
const INITIAL_RECONNECT_DELAY: Duration = Duration::from_millis(100);
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(5);
/// A service that does not serve the stream may be replaced by one that does.
const UNIMPLEMENTED_RETRY_DELAY: Duration = Duration::from_secs(60);
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// A replica that says nothing for so long is asked for a sign of life: if it gives none, another one takes over before the
/// stream counts as broken.
const PING_DELAY: Duration = Duration::from_millis(1_500);

/// The task that listens; it ends with the client.
#[derive(Debug)]
pub(crate) struct WatchTask(JoinHandle<()>);

impl WatchTask {
    /// Must be called within a Tokio runtime.
    pub(crate) fn spawn(near: Arc<AnswerCache>, transport: Transport) -> Self {
        Self(tokio::spawn(run_watch(near, transport)))
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
    /// The service does not have it.
    Unimplemented,
    /// It broke before anything was heard.
    NoEvents,
    /// It broke later.
    Broken,
}

async fn run_watch(near: Arc<AnswerCache>, transport: Transport) {
    let mut failures = 0;
    let mut last = None;
    loop {
        let route = Arc::new(Route::avoiding(last));
        let end = read_stream(&near, &transport, &route).await;
        last = route.connection().map(|connection| connection.replica_id());
        let wait = match end {
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
        time::sleep(wait).await;
    }
}

async fn read_stream(near: &AnswerCache, transport: &Transport, route: &Arc<Route>) -> StreamEnd {
    let resume_after_revision = near.liveness.revision();
    if resume_after_revision == 0 {
        // There is nothing to resume from: what happened since is not told.
        near.liveness.mark_broken();
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
            Ok(Ok(Some(event))) => near.apply_event(event),
            Ok(Err(status)) if matches!(end, StreamEnd::NoEvents) => return classify_status(&status),
            Ok(Ok(None) | Err(_)) | Err(_) => return end,
        }
        end = StreamEnd::Broken;
    }
}

/// Waits at most `limit`. Meanwhile the replica is asked for a sign of life, when it says nothing for long.
async fn timeout_with_ping<T>(
    limit: Duration,
    waiting: impl Future<Output = T>,
    route: &Route,
) -> Result<T, Elapsed> {
    let mut waiting = pin!(waiting);
    if let Ok(outcome) = time::timeout(PING_DELAY, waiting.as_mut()).await {
        return Ok(outcome);
    }
    if let Some(connection) = route.connection() {
        connection.ping();
    }
    time::timeout(limit - PING_DELAY, waiting).await
}

fn classify_status(status: &Status) -> StreamEnd {
    if status.code() == Code::Unimplemented {
        tracing::debug!("the service has no invalidation stream; answers are used for as long as it allows");
        return StreamEnd::Unimplemented;
    }
    tracing::debug!(code = ?status.code(), "the invalidation stream could not be opened");
    StreamEnd::NoEvents
}

impl AnswerCache {
    /// Does what an event says. The sign of life comes last: nothing is relied on before it is done.
    pub(super) fn apply_event(&self, event: WatchResponse) {
        let revision = event.revision;
        match event.event {
            Some(Event::Invalidation(news)) => match news.scope() {
                InvalidationScope::Key => self.invalidate(ChangeSubject::Key(news.id), revision),
                InvalidationScope::Tenant => self.invalidate(ChangeSubject::Tenant(news.id), revision),
                InvalidationScope::Session => self.invalidate(ChangeSubject::Session(news.id), revision),
                // Whatever a later version means by it, it concerns something in here.
                InvalidationScope::Unspecified => self.reset(revision),
            },
            Some(Event::StartOver(_)) => self.reset(revision),
            Some(Event::Heartbeat(_)) => {}
            None => self.reset(revision),
        }
        self.record_heartbeat(revision);
    }
}
