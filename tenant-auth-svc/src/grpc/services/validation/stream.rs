//! The messages of one `StreamValidateKeys`.

use std::{sync::Arc, task::Poll};

use tenant_auth_proto::v1::{self, stream_validate_keys_response::Result as Outcome};
use tokio::task::JoinSet;

use super::noted;
use crate::{
    domain::{
        validate::{KeySource, Validator},
        verdict::Decision,
    },
    grpc::{
        context::{Budget, RpcRecord},
        convert::{decision_message, question},
        error::ApiError,
        places::Places,
        status::as_message,
    },
};

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
    pub(super) places: Places,
}

impl<S> Clone for Messages<S> {
    fn clone(&self) -> Self {
        Self {
            validator: Arc::clone(&self.validator),
            record: self.record.clone(),
            budget: self.budget,
            places: self.places.clone(),
        }
    }
}

impl<S: KeySource> Messages<S> {
    /// Answers one.
    pub(super) async fn answer(self, item: v1::StreamValidateKeysRequest) -> v1::StreamValidateKeysResponse {
        let decision = decided(self.decide(item.request.unwrap_or_default())).await;
        let result = match decision {
            Ok(decision) => Outcome::Response(decision_message(decision)),
            Err(error) => Outcome::Error(as_message(error)),
        };
        v1::StreamValidateKeysResponse { correlation_id: item.correlation_id, result: Some(result) }
    }

    async fn decide(self, request: v1::ValidateKeyRequest) -> Result<Decision, ApiError> {
        let overloaded = || ApiError::Overloaded { limit: self.places.limit() };
        let begun = self.places.take().ok_or_else(overloaded).and_then(|place| {
            let deadline = self.budget.deadline()?;
            Ok((place, deadline))
        });
        let (_place, deadline) = begun.inspect_err(|_| self.record.not_tried())?;
        let question = question(request)?;
        noted(&self.record, self.validator.decide(&question, deadline).await)
    }
}

/// Waits for a decision. Most come from memory, at once. The others go on in a task: what is on a stream only moves
/// while the caller reads, and one that stopped reading would keep its places for as long as it likes.
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
