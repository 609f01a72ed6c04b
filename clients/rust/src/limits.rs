//! Limits: amounts that keys and sessions take from quotas, credits and rates.

mod consumption;
mod credential;
mod decision;
mod local;
mod reservation;
mod reserve;
mod stream;

use futures::{Stream, StreamExt as _};
use tenant_auth_proto::v1::{self, limit_service_client::LimitServiceClient};
use tonic::Request;

use self::stream::SessionsInFlight;
pub use self::{
    consumption::{ConsumeRequest, Consumption},
    credential::{Cost, LimitCredential, SessionQuery},
    decision::{DecidedBy, LimitDecision, Limits},
    local::LocalLimiter,
    reservation::{Reservation, ReservationState, SettledLimit, Settlement},
    reserve::{OnExpiry, ReserveOutcome, ReserveRequest},
    stream::{ConsumeAnswer, ConsumeAnswers},
};
use crate::{Client, ClientAddress, Error, Validation, call::invalid_reply};

/// Maximum requests of one batch that the service accepts.
const MAX_REQUESTS_PER_BATCH: usize = 1_000;

/// Whose limits to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitOwner<'a> {
    /// A tenant, by its id.
    Tenant(&'a str),
    /// A key, by its public id: its own limits, and those of its tenant.
    Key(&'a str),
}

impl Client {
    /// Validates a key or a session and takes amounts from its limits, in one decision: all amounts, or none. It is always a
    /// call, also if the near-cache knows the key.
    ///
    /// A query without an address has that of [`Self::with_client_address`]. Without [`ConsumeRequest::id`], the call is not
    /// repeated once it may have reached the service: after an error, the amounts may be taken.
    ///
    /// # Errors
    /// If nothing was decided, such as [`Error::Unavailable`] with the reason `LIMIT_UNDECIDED`; [`Error::AlreadyExists`] if
    /// the id was used for something else. A denial is not an error.
    pub async fn consume(&self, request: &ConsumeRequest) -> Result<Consumption, Error> {
        self.rpc().check_open()?;
        if let Some(malformed) = request.credential.malformed() {
            return Ok(Consumption::denied(malformed));
        }
        let (message, is_repeatable) = (request.to_message(self.limit_address()), request.is_repeatable());
        let send = async |transport, message| LimitServiceClient::new(transport).consume(message).await;
        let reply = if is_repeatable {
            self.rpc().call_retried(message, send).await?
        } else {
            self.rpc().call_retried_unsent(message, send).await?
        };
        let consumption = Consumption::from_response(request.credential.session_id(), reply)?;
        self.confirmed(request, consumption).await
    }

    /// Takes the amounts of up to 1,000 requests in one call. Each is decided by itself; the outcomes keep the order of the
    /// requests. The call is repeated only if all requests have an id.
    ///
    /// # Errors
    /// The outer error if the whole batch failed, the inner one if this request could not be decided.
    pub async fn consume_batch(
        &self,
        requests: &[ConsumeRequest],
    ) -> Result<Vec<Result<Consumption, Error>>, Error> {
        if requests.len() > MAX_REQUESTS_PER_BATCH {
            let count = requests.len();
            let message =
                format!("{count} requests are too many for one batch: at most {MAX_REQUESTS_PER_BATCH}");
            return Err(Error::Invalid { message, violations: Vec::new() });
        }
        self.rpc().check_open()?;
        let sent: Vec<_> =
            requests.iter().filter(|request| request.credential.malformed().is_none()).collect();
        let messages = sent.iter().map(|request| request.to_message(None)).collect();
        let replies = if sent.is_empty() && !requests.is_empty() {
            Vec::new()
        } else {
            self.send_batch(messages, sent.iter().all(|request| request.is_repeatable())).await?
        };
        // Outcomes are matched by their index: a missing one would give a request the verdict of another.
        if replies.len() != sent.len() {
            let (came, sent) = (replies.len(), sent.len());
            return Err(invalid_reply(format!("the response has {came} results for {sent} requests")));
        }
        let mut replies = replies.into_iter();
        let mut outcomes = Vec::with_capacity(requests.len());
        for request in requests {
            outcomes.push(match request.credential.malformed() {
                Some(malformed) => Ok(Consumption::denied(malformed)),
                None => match Consumption::from_result(request.credential.session_id(), replies.next()) {
                    Ok(consumption) => self.confirmed(request, consumption).await,
                    Err(error) => Err(error),
                },
            });
        }
        Ok(outcomes)
    }

    async fn send_batch(
        &self,
        requests: Vec<v1::ConsumeRequest>,
        is_repeatable: bool,
    ) -> Result<Vec<v1::BatchConsumeResult>, Error> {
        let message = v1::BatchConsumeRequest { requests };
        let send = async |transport, message| LimitServiceClient::new(transport).batch_consume(message).await;
        let reply = if is_repeatable {
            self.rpc().call_retried(message, send).await?
        } else {
            self.rpc().call_retried_unsent(message, send).await?
        };
        Ok(reply.results)
    }

    /// Takes the amounts of requests as they arrive; as [`Self::validate_stream`] for keys.
    ///
    /// # Errors
    /// If the stream could not be opened.
    pub async fn consume_stream<S>(&self, requests: S) -> Result<ConsumeAnswers, Error>
    where
        S: Stream<Item = (u64, ConsumeRequest)> + Send + 'static,
    {
        self.rpc().check_open()?;
        let sessions = SessionsInFlight::default();
        let noted = sessions.clone();
        let messages = requests.map(move |(correlation_id, request)| {
            noted.note(correlation_id, request.credential.session_id());
            v1::StreamConsumeRequest { correlation_id, request: Some(request.to_message(None)) }
        });
        let mut rpc = LimitServiceClient::new(self.transport());
        // No `grpc-timeout`: it would limit the whole stream, not only its opening.
        let opening = rpc.stream_consume(Request::new(messages));
        match tokio::time::timeout(self.rpc().timeout(), opening).await {
            Ok(reply) => Ok(ConsumeAnswers::new(reply?.into_inner(), sessions, self.cache().cloned())),
            Err(_) => Err(Error::DeadlineExceeded),
        }
    }

    /// Returns the limits of a tenant or a key and what is used of them, in the view of the database.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the tenant or the key does not exist.
    pub async fn limit_state(&self, owner: LimitOwner<'_>) -> Result<Vec<v1::LimitState>, Error> {
        use v1::get_limit_state_request::Subject;
        let subject = Some(match owner {
            LimitOwner::Tenant(id) => Subject::TenantId(id.to_owned()),
            LimitOwner::Key(id) => Subject::KeyId(id.to_owned()),
        });
        let send =
            async |transport, message| LimitServiceClient::new(transport).get_limit_state(message).await;
        Ok(self.rpc().call_hedged(v1::GetLimitStateRequest { subject }, send).await?.limits)
    }

    /// Returns a decision that is not weaker than what the near-cache knows of the key or the session. A replica that has not
    /// applied a change yet may have decided.
    async fn confirmed(
        &self,
        request: &ConsumeRequest,
        consumption: Consumption,
    ) -> Result<Consumption, Error> {
        let denial = self.newer_denial(&request.credential, &consumption.validation).await?;
        Ok(denial.map_or(consumption, Consumption::denied))
    }

    /// Returns the denial of a key or a session that was valid by an answer from before its last change.
    pub(super) async fn newer_denial(
        &self,
        credential: &LimitCredential,
        validation: &Validation,
    ) -> Result<Option<Validation>, Error> {
        let Some(cache) = self.cache().map(|handle| handle.cache()).filter(|_| validation.is_valid()) else {
            return Ok(None);
        };
        let tag = credential.tag(cache);
        let known = credential.with_requirements(self.limit_address(), |required| cache.get(tag, required));
        let known = match known {
            Some(known) if known.provenance.revision >= validation.provenance.revision => Some(known),
            _ if cache.is_outdated(validation) => Some(credential.validate(self).await?),
            _ => None,
        };
        Ok(known.filter(|known| !known.is_valid()))
    }

    /// Returns the address for requests without one of their own.
    pub(super) fn limit_address(&self) -> Option<ClientAddress> {
        self.requirements(&[]).client_address
    }
}
