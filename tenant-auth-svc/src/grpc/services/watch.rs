//! `WatchService`.

use std::pin::Pin;

use futures::{Stream, StreamExt as _, stream};
use tenant_auth_proto::v1::{self, watch_service_server::WatchService};
use tonic::{Request, Response, Status};

use crate::{
    domain::watch::Watchable,
    grpc::{
        context::RequestContext as _,
        convert::{parse_watch, watch_messages},
        error::ApiError,
    },
};

/// `WatchService` over a source of watch events.
#[derive(Debug)]
pub struct WatchRpc<H>(H);

impl<H: Watchable> WatchRpc<H> {
    /// Creates a service that sends the events of `hub`.
    pub fn new(hub: H) -> Self {
        Self(hub)
    }
}

#[tonic::async_trait]
impl<H: Watchable> WatchService for WatchRpc<H> {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let after = parse_watch(request.get_ref())?;
        // A subscription lives for days and is idle most of the time.
        request.release_permit();
        let event = self.0.watch(after).await.map_err(ApiError::from)?;
        let messages = event.flat_map(move |event| match event {
            Ok(event) => stream::iter(watch_messages(event)).map(Ok).left_stream(),
            Err(error) => stream::iter([Err(ApiError::from(error).into())]).right_stream(),
        });
        Ok(Response::new(Box::pin(messages)))
    }
}
