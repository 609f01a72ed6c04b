//! The messages of one `StreamValidateKeys`.

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
        guess_limiter::{GuessOrigin, LoadContext},
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

/// How many requests of one stream are worked on at once; beyond that the stream is not read.
const MAX_CONCURRENT_REQUESTS: usize = 256;

/// What all messages of one stream share.
///
/// The stream itself has no place among what is in work: it may live for days, and idle ones would keep everybody else
/// out. Each message takes a place instead, for as long as it is being decided. One that finds none is refused by
/// itself, and the stream lives on.
#[derive(Debug)]
pub(super) struct StreamContext<S> {
    pub(super) validator: Arc<Validator<S>>,
    pub(super) record: RpcRecord,
    pub(super) budget: Budget,
    pub(super) guess_origin: GuessOrigin,
    pub(super) permit: Option<Arc<Permit>>,
}

impl<S> Clone for StreamContext<S> {
    fn clone(&self) -> Self {
        Self {
            validator: Arc::clone(&self.validator),
            record: self.record.clone(),
            budget: self.budget,
            guess_origin: self.guess_origin.clone(),
            permit: self.permit.clone(),
        }
    }
}

impl<S: KeySource> StreamContext<S> {
    /// Decides at once, if that takes no waiting. As for a plain request, such an answer needs no place: it is in work for a
    /// microsecond.
    fn decide_from_cache(&self, question: &KeyQuery) -> Option<Decision> {
        let decision = self.validator.decide_from_cache(&question.key, &question.required_scopes)?;
        let subject = DenialSubject::for_key(decision.key.as_deref());
        self.record.add_decision(decision.verdict, decision.provenance.source, subject);
        Some(decision)
    }

    async fn decide(self, question: KeyQuery) -> Result<Decision, ApiError> {
        let place =
            self.permit.as_ref().map(|place| place.try_acquire_another()).transpose().map_err(ApiError::from);
        let begun = place.and_then(|place| {
            let deadline = self.budget.deadline()?;
            Ok((place, deadline))
        });
        let (_place, deadline) = begun.inspect_err(|_| self.record.add_not_tried())?;
        let ask = LoadContext { origin: self.guess_origin, deadline };
        note_decision(&self.record, self.validator.decide(&question, ask).await)
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

/// The answers of one stream: those from memory as their questions come, the others when they are ready.
///
/// The caller's reading drives the whole: while it does not read, nothing more than [`MAX_CONCURRENT_REQUESTS`] is taken in.
pub(super) struct ResponseStream<S, Asked> {
    context: StreamContext<S>,
    requests: Asked,
    pending: FuturesUnordered<BoxFuture<'static, v1::StreamValidateKeysResponse>>,
    has_ended: bool,
}

impl<S, Asked> ResponseStream<S, Asked> {
    pub(super) fn new(messages: StreamContext<S>, asked: Asked) -> Self {
        Self { context: messages, requests: asked, pending: FuturesUnordered::new(), has_ended: false }
    }
}

impl<S: KeySource, Asked> ResponseStream<S, Asked> {
    /// Answers, or has the answer come later.
    fn start_request(
        &mut self,
        item: v1::StreamValidateKeysRequest,
    ) -> Option<v1::StreamValidateKeysResponse> {
        let id = item.correlation_id;
        let question = match parse_key_query(item.request.unwrap_or_default()) {
            Ok(question) => question,
            Err(error) => return Some(response_message(id, Err(error))),
        };
        if let Some(decision) = self.context.decide_from_cache(&question) {
            return Some(response_message(id, Ok(decision)));
        }
        let decision = self.context.clone().decide(question);
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
            if let Poll::Ready(Some(answer)) = this.pending.poll_next_unpin(cx) {
                return Poll::Ready(Some(Ok(answer)));
            }
            if this.has_ended || this.pending.len() >= MAX_CONCURRENT_REQUESTS {
                // All of them may be over by now.
                return if this.pending.is_empty() { Poll::Ready(None) } else { Poll::Pending };
            }
            match ready!(this.requests.poll_next_unpin(cx)) {
                Some(Ok(item)) => {
                    if let Some(answer) = this.start_request(item) {
                        return Poll::Ready(Some(Ok(answer)));
                    }
                }
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                None => this.has_ended = true,
            }
        }
    }
}

/// Waits for a decision. What is not there at once goes on in a task: what is on a stream only moves while the caller
/// reads, and one that stopped reading would keep its places for as long as it likes.
async fn decide_in_task(
    decision: impl Future<Output = Result<Decision, ApiError>> + Send + 'static,
) -> Result<Decision, ApiError> {
    let mut decision = Box::pin(decision);
    if let Poll::Ready(decision) = futures::poll!(&mut decision) {
        return decision;
    }
    // Ends its task with itself, when the caller has gone.
    let mut task = JoinSet::new();
    task.spawn(decision);
    match task.join_next().await {
        Some(Ok(decision)) => decision,
        Some(Err(_)) | None => Err(ApiError::Panicked),
    }
}
