//! The messages of one call of a streaming RPC whose responses may arrive in another order than its requests.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{Stream, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::task::JoinSet;
use tonic::Status;

use crate::{
    domain::unknown_lookup_limiter::{LoadContext, LookupOrigin},
    grpc::{
        context::{Budget, RpcRecord},
        error::ApiError,
        permits::Permit,
    },
};

/// The maximum number of concurrent requests of one stream. At the limit, the stream is not read.
const MAX_CONCURRENT_REQUESTS: usize = 256;

/// How the messages of an RPC are decided.
pub(super) trait StreamedRpc: Clone + Send + Sync + 'static {
    /// A message of the caller.
    type Message: Send + 'static;
    /// A parsed request.
    type Query: Send + 'static;
    /// A decision.
    type Decision: Send + 'static;
    /// A message to the caller.
    type Response: Send + 'static;

    /// Returns the correlation id and the request of a message.
    fn parse(&self, message: Self::Message) -> (u64, Result<Self::Query, ApiError>);

    /// Decides without waiting; `None` if that is impossible.
    fn decide_now(&self, query: &Self::Query, record: &RpcRecord) -> Option<Self::Decision>;

    /// Decides.
    fn decide(
        self,
        query: Self::Query,
        context: LoadContext,
        record: RpcRecord,
    ) -> impl Future<Output = Result<Self::Decision, ApiError>> + Send;

    /// Makes the response to the message with a correlation id.
    fn response(correlation_id: u64, outcome: Result<Self::Decision, ApiError>) -> Self::Response;
}

/// The state that all messages of one stream share.
///
/// The stream itself holds no request permit: it may live for days, and idle streams would block other
/// callers. Each message holds a permit while it is being decided. A message that gets no permit is refused,
/// and the stream continues.
#[derive(Clone, Debug)]
pub(super) struct StreamContext {
    pub(super) record: RpcRecord,
    pub(super) budget: Budget,
    pub(super) lookup_origin: LookupOrigin,
    pub(super) permit: Option<Arc<Permit>>,
}

impl StreamContext {
    async fn decide<R: StreamedRpc>(self, rpc: R, query: R::Query) -> Result<R::Decision, ApiError> {
        let permit = self
            .permit
            .as_ref()
            .map(|permit| permit.try_acquire_another())
            .transpose()
            .map_err(ApiError::from);
        let admitted = permit.and_then(|permit| {
            let deadline = self.budget.deadline()?;
            Ok((permit, deadline))
        });
        let (_permit, deadline) = admitted.inspect_err(|_| self.record.add_not_tried())?;
        let context = LoadContext { origin: self.lookup_origin, deadline };
        rpc.decide(query, context, self.record).await
    }
}

/// The responses of one stream. Responses that need no wait are sent at once, the others when they are ready, in
/// any order.
///
/// The stream advances only while the caller reads. If the caller does not read, at most
/// [`MAX_CONCURRENT_REQUESTS`] requests are accepted.
pub(super) struct ResponseStream<R: StreamedRpc, Asked> {
    rpc: R,
    context: StreamContext,
    requests: Asked,
    pending: FuturesUnordered<BoxFuture<'static, R::Response>>,
    has_ended: bool,
}

impl<R: StreamedRpc, Asked> ResponseStream<R, Asked> {
    pub(super) fn new(rpc: R, context: StreamContext, requests: Asked) -> Self {
        Self { rpc, context, requests, pending: FuturesUnordered::new(), has_ended: false }
    }

    /// Returns the response, or starts a request whose response follows later.
    ///
    /// A decision that needs no wait needs no permit, as for a unary request: it takes about a microsecond.
    fn start_request(&mut self, message: R::Message) -> Option<R::Response> {
        let (id, query) = self.rpc.parse(message);
        let query = match query {
            Ok(query) => query,
            Err(error) => return Some(R::response(id, Err(error))),
        };
        if let Some(decision) = self.rpc.decide_now(&query, &self.context.record) {
            return Some(R::response(id, Ok(decision)));
        }
        let decision = self.context.clone().decide(self.rpc.clone(), query);
        self.pending.push(Box::pin(async move { R::response(id, decide_in_task(decision).await) }));
        None
    }
}

impl<R, Asked> Stream for ResponseStream<R, Asked>
where
    R: StreamedRpc + Unpin,
    Asked: Stream<Item = Result<R::Message, Status>> + Unpin,
{
    type Item = Result<R::Response, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Poll::Ready(Some(response)) = this.pending.poll_next_unpin(cx) {
                return Poll::Ready(Some(Ok(response)));
            }
            if this.has_ended || this.pending.len() >= MAX_CONCURRENT_REQUESTS {
                // All pending requests may have ended by now.
                return if this.pending.is_empty() { Poll::Ready(None) } else { Poll::Pending };
            }
            match ready!(this.requests.poll_next_unpin(cx)) {
                Some(Ok(item)) => {
                    if let Some(response) = this.start_request(item) {
                        return Poll::Ready(Some(Ok(response)));
                    }
                }
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                None => this.has_ended = true,
            }
        }
    }
}

/// Waits for a decision. A decision that is not ready at once continues in a task: the stream itself is
/// polled only while the caller reads, and a caller that stops reading would hold its permits indefinitely.
async fn decide_in_task<D: Send + 'static>(
    decision: impl Future<Output = Result<D, ApiError>> + Send + 'static,
) -> Result<D, ApiError> {
    let mut decision = Box::pin(decision);
    if let Poll::Ready(decision) = futures::poll!(&mut decision) {
        return decision;
    }
    // Aborts its task when it is dropped, if the caller disconnects.
    let mut task = JoinSet::new();
    task.spawn(decision);
    match task.join_next().await {
        Some(Ok(decision)) => decision,
        Some(Err(_)) | None => Err(ApiError::Panicked),
    }
}
