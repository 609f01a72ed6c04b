//! The answers of a stream of requests to take amounts.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures::{Stream, StreamExt as _};
use tenant_auth_proto::v1::{self, stream_consume_response::Result as Outcome};
use tonic::Streaming;

use super::Consumption;
use crate::{Error, call::required_field, near::CacheHandle};

/// The answers of [`Client::consume_stream`](crate::Client::consume_stream), in the order of arrival.
///
/// An `Err` item means that the stream broke: requests without an answer may have taken their amounts.
#[derive(Debug)]
pub struct ConsumeAnswers {
    messages: Streaming<v1::StreamConsumeResponse>,
    sessions: SessionsInFlight,
    cache: Option<CacheHandle>,
}

/// The outcome of one request on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumeAnswer {
    /// The correlation id of the request.
    pub correlation_id: u64,
    /// The decision, or why this request could not be decided. The stream continues either way.
    pub outcome: Result<Consumption, Error>,
}

/// The session ids of requests without an answer: an answer does not repeat them.
#[derive(Clone, Debug, Default)]
pub(super) struct SessionsInFlight(Arc<Mutex<HashMap<u64, String>>>);

impl SessionsInFlight {
    pub(super) fn note(&self, correlation_id: u64, session_id: Option<&str>) {
        if let Some(session_id) = session_id {
            self.lock().insert(correlation_id, session_id.to_owned());
        }
    }

    fn take(&self, correlation_id: u64) -> Option<String> {
        self.lock().remove(&correlation_id)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConsumeAnswers {
    pub(super) fn new(
        messages: Streaming<v1::StreamConsumeResponse>,
        sessions: SessionsInFlight,
        cache: Option<CacheHandle>,
    ) -> Self {
        Self { messages, sessions, cache }
    }

    fn parse(&self, message: v1::StreamConsumeResponse) -> ConsumeAnswer {
        let session_id = self.sessions.take(message.correlation_id);
        let outcome = required_field(message.result, "outcome").and_then(|outcome| match outcome {
            Outcome::Response(message) => Consumption::from_response(session_id.as_deref(), message),
            Outcome::Error(item) => Err(Error::from_item(&item)),
        });
        let outcome = outcome.and_then(|consumption| self.check(consumption));
        ConsumeAnswer { correlation_id: message.correlation_id, outcome }
    }

    /// Rejects a valid answer that is older than a change of the key: the replica has not applied it yet.
    fn check(&self, consumption: Consumption) -> Result<Consumption, Error> {
        let validation = &consumption.validation;
        match self.cache.as_ref().map(CacheHandle::cache) {
            Some(cache) if validation.is_valid() && cache.is_outdated(validation) => {
                let message = "the answer is older than an announced change".to_owned();
                Err(Error::Unavailable { message, reason: None, retry_after: None })
            }
            _ => Ok(consumption),
        }
    }
}

impl Stream for ConsumeAnswers {
    type Item = Result<ConsumeAnswer, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = self.messages.poll_next_unpin(cx);
        item.map(|item| item.map(|message| message.map(|message| self.parse(message)).map_err(Error::from)))
    }
}
