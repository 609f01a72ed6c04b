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

use super::{About, Near, liveness::LONGEST_SILENCE};
use crate::{
    call::jittered,
    transport::{Route, Transport},
};

/// Before the first attempt to connect again; it doubles with each that fails.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A service that does not serve the stream may be replaced by one that does.
const NOT_SERVED_WAIT: Duration = Duration::from_secs(60);
const OPENING: Duration = Duration::from_secs(5);
/// A replica that says nothing for so long is asked for a sign of life: if it gives none, another one takes over before the
/// stream counts as broken.
const UNEASY: Duration = Duration::from_millis(1_500);

/// The task that listens; it ends with the client.
#[derive(Debug)]
pub(crate) struct Watching(JoinHandle<()>);

impl Watching {
    /// Must be called within a Tokio runtime.
    pub(crate) fn spawn(near: Arc<Near>, transport: Transport) -> Self {
        Self(tokio::spawn(listen(near, transport)))
    }
}

impl Watching {
    pub(crate) fn stop(&self) {
        self.0.abort();
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.stop();
    }
}

/// How a stream ended.
enum End {
    /// The service does not have it.
    NotServed,
    /// It broke before anything was heard.
    Silent,
    /// It broke later.
    Broken,
}

async fn listen(near: Arc<Near>, transport: Transport) {
    let mut failures = 0;
    let mut last = None;
    loop {
        let route = Arc::new(Route::avoiding(last));
        let end = follow(&near, &transport, &route).await;
        last = route.taken().map(|connection| connection.place());
        let wait = match end {
            End::NotServed => NOT_SERVED_WAIT,
            End::Silent => {
                failures += 1;
                jittered(FIRST_WAIT, LONGEST_WAIT, failures)
            }
            End::Broken => {
                failures = 0;
                jittered(FIRST_WAIT, LONGEST_WAIT, failures)
            }
        };
        time::sleep(wait).await;
    }
}

async fn follow(near: &Near, transport: &Transport, route: &Arc<Route>) -> End {
    let resume_after_revision = near.liveness.revision();
    if resume_after_revision == 0 {
        // There is nothing to resume from: what happened since is not told.
        near.liveness.broken();
    }
    let mut rpc = WatchServiceClient::new(transport.routed(Arc::clone(route)));
    let opening = rpc.watch(WatchRequest { resume_after_revision });
    let mut stream = match attended(OPENING, opening, route).await {
        Ok(Ok(reply)) => reply.into_inner(),
        Ok(Err(status)) => return refused(&status),
        Err(_) => return End::Silent,
    };
    let mut end = End::Silent;
    loop {
        match attended(LONGEST_SILENCE, stream.message(), route).await {
            Ok(Ok(Some(event))) => near.take(event),
            Ok(Err(status)) if matches!(end, End::Silent) => return refused(&status),
            Ok(Ok(None) | Err(_)) | Err(_) => return end,
        }
        end = End::Broken;
    }
}

/// Waits at most `limit`. Meanwhile the replica is asked for a sign of life, when it says nothing for long.
async fn attended<T>(limit: Duration, waiting: impl Future<Output = T>, route: &Route) -> Result<T, Elapsed> {
    let mut waiting = pin!(waiting);
    if let Ok(outcome) = time::timeout(UNEASY, waiting.as_mut()).await {
        return Ok(outcome);
    }
    if let Some(connection) = route.taken() {
        connection.ask_for_life();
    }
    time::timeout(limit - UNEASY, waiting).await
}

fn refused(status: &Status) -> End {
    if status.code() == Code::Unimplemented {
        tracing::debug!("the service has no invalidation stream; answers are used for as long as it allows");
        return End::NotServed;
    }
    tracing::debug!(code = ?status.code(), "the invalidation stream could not be opened");
    End::Silent
}

impl Near {
    /// Does what an event says. The sign of life comes last: nothing is relied on before it is done.
    pub(super) fn take(&self, event: WatchResponse) {
        let revision = event.revision;
        match event.event {
            Some(Event::Invalidation(news)) => match news.scope() {
                InvalidationScope::Key => self.invalidate(About::Key(news.id), revision),
                InvalidationScope::Tenant => self.invalidate(About::Tenant(news.id), revision),
                InvalidationScope::Session => self.invalidate(About::Session(news.id), revision),
                // Whatever a later version means by it, it concerns something in here.
                InvalidationScope::Unspecified => self.start_over(revision),
            },
            Some(Event::StartOver(_)) => self.start_over(revision),
            Some(Event::Heartbeat(_)) => {}
            None => self.start_over(revision),
        }
        self.heard(revision);
    }
}
