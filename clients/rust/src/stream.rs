//! The answers of a validation stream.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, StreamExt as _};
use tenant_auth_proto::v1::{self, stream_validate_keys_response::Result as Outcome};
use tonic::Streaming;

use crate::{Error, Validation, call::required_field};

/// The answers of [`Client::validate_stream`](crate::Client::validate_stream), in the order of arrival.
///
/// An `Err` item means that the stream broke: queries without an answer were not decided.
#[derive(Debug)]
pub struct Answers(Streaming<v1::StreamValidateKeysResponse>);

/// The outcome of one key on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The correlation id of the query.
    pub correlation_id: u64,
    /// The decision, or why this key could not be decided. The stream continues either way.
    pub outcome: Result<Validation, Error>,
}

impl Answers {
    pub(crate) fn new(messages: Streaming<v1::StreamValidateKeysResponse>) -> Self {
        Self(messages)
    }
}

impl Stream for Answers {
    type Item = Result<Answer, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0
            .poll_next_unpin(cx)
            .map(|item| item.map(|message| message.map(parse_answer).map_err(Error::from)))
    }
}

fn parse_answer(message: v1::StreamValidateKeysResponse) -> Answer {
    let outcome = required_field(message.result, "outcome").and_then(|outcome| match outcome {
        Outcome::Response(message) => Validation::from_key_response(message),
        Outcome::Error(item) => Err(Error::from_item(&item)),
    });
    Answer { correlation_id: message.correlation_id, outcome }
}
