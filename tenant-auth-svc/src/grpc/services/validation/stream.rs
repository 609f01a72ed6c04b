//! The messages of one `StreamValidateKeys` call.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{Stream, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tenant_auth_proto::v1::{self, stream_validate_keys_response::Result as Outcome};
use tokio::task::JoinSet;
use tonic::Status;

use super::note_decision;
use crate::{
    domain::{
        unknown_lookup_limiter::{LoadContext, LookupOrigin},
        validate::{KeyQuery, KeySource, Validator},
        verdict::Decision,
    },
    grpc::{
        context::{Budget, RpcRecord},
        convert::{decision_message, parse_key_query},
        denials::DenialSubject,
        error::ApiError,
        permits::Permit,
        status::status_message,
    },
};

/// The maximum number of concurrent requests of one stream. At the limit, the stream is not read.
const MAX_CONCURRENT_REQUESTS: usize = 256;

/// The state that all messages of one stream share.
///
/// The stream itself holds no request permit: it may live for days, and idle streams would block other
/// callers. Each message holds a permit while it is being decided. A message that gets no permit is refused,
/// and the stream continues.
#[derive(Debug)]
pub(super) struct StreamContext<S> {
    pub(super) validator: Arc<Validator<S>>,
    pub(super) record: RpcRecord,
    pub(super) budget: Budget,
    pub(super) lookup_origin: LookupOrigin,
    pub(super) permit: Option<Arc<Permit>>,
}

impl<S> Clone for StreamContext<S> {
    fn clone(&self) -> Self {
        Self {
            validator: Arc::clone(&self.validator),
            record: self.record.clone(),
            budget: self.budget,
            lookup_origin: self.lookup_origin.clone(),
            permit: self.permit.clone(),
        }
    }
}

impl<S: KeySource> StreamContext<S> {
    /// Decides at once, if no wait is needed. As for a unary request, such a decision needs no permit: it
    /// takes about a microsecond.
    fn decide_from_cache(&self, query: &KeyQuery) -> Option<Decision> {
        let decision =
            self.validator.decide_from_cache(&query.key, &query.required_scopes, query.client_address)?;
        let subject = DenialSubject::for_key(decision.key.as_deref());
        self.record.add_decision(decision.verdict, decision.provenance.source, subject);
        Some(decision)
    }

    async fn decide(self, query: KeyQuery) -> Result<Decision, ApiError> {
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
        note_decision(&self.record, self.validator.decide(&query, context).await)
    }
}

fn response_message(
    correlation_id: u64,
    outcome: Result<Decision, ApiError>,
) -> v1::StreamValidateKeysResponse {
    let result = match outcome {
        Ok(decision) => Outcome::Response(decision_message(decision)),
        Err(error) => Outcome::Error(status_message(error)),
    };
    v1::StreamValidateKeysResponse { correlation_id, result: Some(result) }
}

/// The responses of one stream. Responses from the cache are sent at once, the others when they are ready, in
/// any order.
///
/// The stream advances only while the caller reads. If the caller does not read, at most
/// [`MAX_CONCURRENT_REQUESTS`] requests are accepted.
pub(super) struct ResponseStream<S, Asked> {
    context: StreamContext<S>,
    requests: Asked,
    pending: FuturesUnordered<BoxFuture<'static, v1::StreamValidateKeysResponse>>,
    has_ended: bool,
}

impl<S, Asked> ResponseStream<S, Asked> {
    pub(super) fn new(context: StreamContext<S>, requests: Asked) -> Self {
        Self { context, requests, pending: FuturesUnordered::new(), has_ended: false }
    }
}

impl<S: KeySource, Asked> ResponseStream<S, Asked> {
    /// Returns the response, or starts a request whose response follows later.
    fn start_request(
        &mut self,
        item: v1::StreamValidateKeysRequest,
    ) -> Option<v1::StreamValidateKeysResponse> {
        let id = item.correlation_id;
        let query = match parse_key_query(item.request.unwrap_or_default()) {
            Ok(query) => query,
            Err(error) => return Some(response_message(id, Err(error))),
        };
        if let Some(decision) = self.context.decide_from_cache(&query) {
            return Some(response_message(id, Ok(decision)));
        }
        let decision = self.context.clone().decide(query);
        self.pending.push(Box::pin(async move { response_message(id, decide_in_task(decision).await) }));
        None
    }
}

impl<S, Asked> Stream for ResponseStream<S, Asked>
where
    S: KeySource,
    Asked: Stream<Item = Result<v1::StreamValidateKeysRequest, Status>> + Unpin,
{
    type Item = Result<v1::StreamValidateKeysResponse, Status>;

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
async fn decide_in_task(
    decision: impl Future<Output = Result<Decision, ApiError>> + Send + 'static,
) -> Result<Decision, ApiError> {
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
