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

use super::noted;
use crate::{
    domain::{
        guesses::{Asker, OnBehalf},
        validate::{KeySource, Question, Validator},
        verdict::Decision,
    },
    grpc::{
        context::{Budget, RpcRecord},
        convert::{decision_message, question},
        denials::Subject,
        error::ApiError,
        permits::Place,
        status::as_message,
    },
};

/// How many requests of one stream are worked on at once; beyond that the stream is not read.
const AT_ONCE: usize = 256;

/// What all messages of one stream share.
///
/// The stream itself has no place among what is in work: it may live for days, and idle ones would keep everybody else
/// out. Each message takes a place instead, for as long as it is being decided. One that finds none is refused by
/// itself, and the stream lives on.
#[derive(Debug)]
pub(super) struct Messages<S> {
    pub(super) validator: Arc<Validator<S>>,
    pub(super) record: RpcRecord,
    pub(super) budget: Budget,
    pub(super) asker: Asker,
    pub(super) place: Option<Arc<Place>>,
}

impl<S> Clone for Messages<S> {
    fn clone(&self) -> Self {
        Self {
            validator: Arc::clone(&self.validator),
            record: self.record.clone(),
            budget: self.budget,
            asker: self.asker.clone(),
            place: self.place.clone(),
        }
    }
}

impl<S: KeySource> Messages<S> {
    /// Decides at once, if that takes no waiting. As for a plain request, such an answer needs no place: it is in work for a
    /// microsecond.
    fn recall(&self, question: &Question) -> Option<Decision> {
        let decision = self.validator.recall(&question.key, &question.required_scopes)?;
        let subject = Subject::of(decision.key.as_deref());
        self.record.decided(decision.verdict, decision.provenance.source, subject);
        Some(decision)
    }

    async fn decide(self, question: Question) -> Result<Decision, ApiError> {
        let place = self.place.as_ref().map(|place| place.another()).transpose().map_err(ApiError::from);
        let begun = place.and_then(|place| {
            let deadline = self.budget.deadline()?;
            Ok((place, deadline))
        });
        let (_place, deadline) = begun.inspect_err(|_| self.record.not_tried())?;
        let ask = OnBehalf { asker: self.asker, deadline };
        noted(&self.record, self.validator.decide(&question, ask).await)
    }
}

fn answer(correlation_id: u64, outcome: Result<Decision, ApiError>) -> v1::StreamValidateKeysResponse {
    let result = match outcome {
        Ok(decision) => Outcome::Response(decision_message(decision)),
        Err(error) => Outcome::Error(as_message(error)),
    };
    v1::StreamValidateKeysResponse { correlation_id, result: Some(result) }
}

/// The answers of one stream: those from memory as their questions come, the others when they are ready.
///
/// The caller's reading drives the whole: while it does not read, nothing more than [`AT_ONCE`] is taken in.
pub(super) struct Answers<S, Asked> {
    messages: Messages<S>,
    asked: Asked,
    waiting: FuturesUnordered<BoxFuture<'static, v1::StreamValidateKeysResponse>>,
    has_ended: bool,
}

impl<S, Asked> Answers<S, Asked> {
    pub(super) fn new(messages: Messages<S>, asked: Asked) -> Self {
        Self { messages, asked, waiting: FuturesUnordered::new(), has_ended: false }
    }
}

impl<S: KeySource, Asked> Answers<S, Asked> {
    /// Answers, or has the answer come later.
    fn begin(&mut self, item: v1::StreamValidateKeysRequest) -> Option<v1::StreamValidateKeysResponse> {
        let id = item.correlation_id;
        let question = match question(item.request.unwrap_or_default()) {
            Ok(question) => question,
            Err(error) => return Some(answer(id, Err(error))),
        };
        if let Some(decision) = self.messages.recall(&question) {
            return Some(answer(id, Ok(decision)));
        }
        let decision = self.messages.clone().decide(question);
        self.waiting.push(Box::pin(async move { answer(id, decided(decision).await) }));
        None
    }
}

impl<S, Asked> Stream for Answers<S, Asked>
where
    S: KeySource,
    Asked: Stream<Item = Result<v1::StreamValidateKeysRequest, Status>> + Unpin,
{
    type Item = Result<v1::StreamValidateKeysResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Poll::Ready(Some(answer)) = this.waiting.poll_next_unpin(cx) {
                return Poll::Ready(Some(Ok(answer)));
            }
            if this.has_ended || this.waiting.len() >= AT_ONCE {
                // All of them may be over by now.
                return if this.waiting.is_empty() { Poll::Ready(None) } else { Poll::Pending };
            }
            match ready!(this.asked.poll_next_unpin(cx)) {
                Some(Ok(item)) => {
                    if let Some(answer) = this.begin(item) {
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
async fn decided(
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
