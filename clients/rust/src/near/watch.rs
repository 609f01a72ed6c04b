//! Listens to the service's invalidations.

use std::{sync::Arc, time::Duration};

use tenant_auth_proto::v1::{
    InvalidationScope, WatchRequest, WatchResponse, watch_response::Event,
    watch_service_client::WatchServiceClient,
};
use tokio::{task::JoinHandle, time};
use tonic::{Code, Status};

use super::{About, Near, liveness::LONGEST_SILENCE};
use crate::{call::jittered, transport::Transport};

/// Before the first attempt to connect again; it doubles with each that fails.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A service that does not serve the stream may be replaced by one that does.
const NOT_SERVED_WAIT: Duration = Duration::from_secs(60);
const OPENING: Duration = Duration::from_secs(5);

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
    loop {
        let wait = match follow(&near, &transport).await {
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

async fn follow(near: &Near, transport: &Transport) -> End {
    let resume_after_revision = near.liveness.revision();
    if resume_after_revision == 0 {
        // There is nothing to resume from: what happened since is not told.
        near.liveness.broken();
    }
    let mut rpc = WatchServiceClient::new(transport.clone());
    let opening = rpc.watch(WatchRequest { resume_after_revision });
    let mut stream = match time::timeout(OPENING, opening).await {
        Ok(Ok(reply)) => reply.into_inner(),
        Ok(Err(status)) => return refused(&status),
        Err(_) => return End::Silent,
    };
    let mut end = End::Silent;
    loop {
        match time::timeout(LONGEST_SILENCE, stream.message()).await {
            Ok(Ok(Some(event))) => near.take(event),
            Ok(Err(status)) if matches!(end, End::Silent) => return refused(&status),
            Ok(Ok(None) | Err(_)) | Err(_) => return end,
        }
        end = End::Broken;
    }
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
