//! `LimitService`.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use tenant_auth_proto::v1::{
    self, batch_consume_result, limit_service_server::LimitService, stream_consume_response,
};
use tonic::{Request, Response, Status, Streaming};

use super::response_stream::{ResponseStream, StreamContext, StreamedRpc};
use crate::{
    domain::{
        limit::{
            LimitEnforcer, LimitError, LimitStore, ReservationEnd, ReservationError, ReservationState,
            admin::LimitAdmin,
            consume::{ConsumeDecision, Consumer, Consumption, Validation},
        },
        sessions::SessionCache,
        store::Store,
        unknown_lookup_limiter::LoadContext,
        validate::KeySource,
    },
    grpc::{
        context::{RequestContext, RpcRecord},
        convert::{
            MAX_BATCH_KEYS, consume_response, limit_state_response, parse_cancel, parse_consume,
            parse_consume_batch, parse_limit_state, parse_reserve, parse_settle, proto_state,
            reserve_response, settle_response,
        },
        denials::DenialSubject,
        error::ApiError,
        status::status_message,
    },
};

/// The time limit of a decision whose caller sets no deadline, if it may wait for a commit.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);
/// How many entries of a batch are decided at the same time, if they have to wait.
const CONCURRENT_ENTRIES: usize = 64;

/// `LimitService` over a [`Consumer`].
#[derive(Debug)]
pub struct LimitRpc<S, K, M, L> {
    consumer: Arc<Consumer<S, K, M, L>>,
    admin: Arc<LimitAdmin<S>>,
}

impl<S: Store + LimitStore, K: KeySource, M: SessionCache, L: LimitEnforcer> LimitRpc<S, K, M, L> {
    /// Creates the service.
    pub fn new(consumer: Arc<Consumer<S, K, M, L>>, admin: Arc<LimitAdmin<S>>) -> Self {
        Self { consumer, admin }
    }
}

fn caller<T>(request: &Request<T>) -> Option<String> {
    request.caller_name().map(|name| name.to_string())
}

#[tonic::async_trait]
impl<S: Store + LimitStore, K: KeySource, M: SessionCache, L: LimitEnforcer> LimitService
    for LimitRpc<S, K, M, L>
{
    type StreamConsumeStream = Pin<Box<dyn Stream<Item = Result<v1::StreamConsumeResponse, Status>> + Send>>;

    async fn consume(
        &self,
        request: Request<v1::ConsumeRequest>,
    ) -> Result<Response<v1::ConsumeResponse>, Status> {
        let (context, record) = (request.load_context(COMMIT_TIMEOUT)?, request.rpc_record());
        let consumption = parse_consume(caller(&request), request.into_inner())?;
        let decision = note_decision(&record, self.consumer.consume(consumption, context).await)?;
        Ok(Response::new(consume_response(decision)))
    }

    async fn batch_consume(
        &self,
        request: Request<v1::BatchConsumeRequest>,
    ) -> Result<Response<v1::BatchConsumeResponse>, Status> {
        use batch_consume_result::Result as Outcome;

        let (context, record) = (request.load_context(COMMIT_TIMEOUT)?, request.rpc_record());
        let (consumptions, errors) =
            parse_consume_batch(caller(&request).as_deref(), request.into_inner(), MAX_BATCH_KEYS)?
                .into_parts();
        let decide = |consumption| {
            let context = context.clone();
            async { note_decision(&record, self.consumer.consume(consumption, context).await) }
        };
        let decided: Vec<_> =
            stream::iter(consumptions.into_iter().map(decide)).buffered(CONCURRENT_ENTRIES).collect().await;
        let results = errors.merge_outcomes(decided).map(|outcome| {
            let result = match outcome {
                Ok(decision) => Outcome::Response(consume_response(decision)),
                Err(error) => Outcome::Error(status_message(error)),
            };
            v1::BatchConsumeResult { result: Some(result) }
        });
        Ok(Response::new(v1::BatchConsumeResponse { results: results.collect() }))
    }

    async fn stream_consume(
        &self,
        request: Request<Streaming<v1::StreamConsumeRequest>>,
    ) -> Result<Response<Self::StreamConsumeStream>, Status> {
        let rpc = StreamedConsumption { consumer: Arc::clone(&self.consumer), caller: caller(&request) };
        let context = StreamContext {
            record: request.rpc_record(),
            budget: request.budget(COMMIT_TIMEOUT),
            lookup_origin: request.lookup_origin(),
            permit: request.release_permit(),
        };
        Ok(Response::new(Box::pin(ResponseStream::new(rpc, context, request.into_inner()))))
    }

    async fn reserve(
        &self,
        request: Request<v1::ReserveRequest>,
    ) -> Result<Response<v1::ReserveResponse>, Status> {
        let (context, record) = (request.load_context(COMMIT_TIMEOUT)?, request.rpc_record());
        let reservation = parse_reserve(caller(&request), request.into_inner())?;
        let expires_in = reservation.expires_in;
        let decision = note_decision(&record, self.consumer.reserve(reservation, context).await)?;
        Ok(Response::new(reserve_response(decision, expires_in)))
    }

    async fn settle(
        &self,
        request: Request<v1::SettleRequest>,
    ) -> Result<Response<v1::SettleResponse>, Status> {
        let (context, record) = (request.load_context(COMMIT_TIMEOUT)?, request.rpc_record());
        let (id, end) = parse_settle(caller(&request), request.get_ref())?;
        let ended = note_failure(&record, self.consumer.end_reservation(&id, end, context).await)?;
        Ok(Response::new(settle_response(ended)))
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelRequest>,
    ) -> Result<Response<v1::CancelResponse>, Status> {
        let (context, record) = (request.load_context(COMMIT_TIMEOUT)?, request.rpc_record());
        let id = parse_cancel(caller(&request), request.get_ref())?;
        let ended =
            note_failure(&record, self.consumer.end_reservation(&id, ReservationEnd::Cancel, context).await)?;
        if ended.state == ReservationState::Settled {
            return Err(ApiError::from(ReservationError::Settled).into());
        }
        Ok(Response::new(v1::CancelResponse { state: proto_state(ended.state).into() }))
    }

    async fn get_limit_state(
        &self,
        request: Request<v1::GetLimitStateRequest>,
    ) -> Result<Response<v1::GetLimitStateResponse>, Status> {
        let deadline = request.deadline(COMMIT_TIMEOUT)?;
        let holder = parse_limit_state(request.get_ref())?;
        let states = self.admin.state(holder, deadline).await.map_err(ApiError::from)?;
        Ok(Response::new(limit_state_response(states)))
    }
}

/// `StreamConsume`.
struct StreamedConsumption<S, K, M, L> {
    consumer: Arc<Consumer<S, K, M, L>>,
    caller: Option<String>,
}

impl<S, K, M, L> Clone for StreamedConsumption<S, K, M, L> {
    fn clone(&self) -> Self {
        Self { consumer: Arc::clone(&self.consumer), caller: self.caller.clone() }
    }
}

impl<S: Store, K: KeySource, M: SessionCache, L: LimitEnforcer> StreamedRpc
    for StreamedConsumption<S, K, M, L>
{
    type Message = v1::StreamConsumeRequest;
    type Query = Consumption;
    type Decision = ConsumeDecision;
    type Response = v1::StreamConsumeResponse;

    fn parse(&self, message: Self::Message) -> (u64, Result<Consumption, ApiError>) {
        (message.correlation_id, parse_consume(self.caller.clone(), message.request.unwrap_or_default()))
    }

    fn decide_now(&self, query: &Consumption, record: &RpcRecord) -> Option<ConsumeDecision> {
        let decision = self.consumer.consume_now(query)?;
        note_validation(record, &decision.validation);
        Some(decision)
    }

    async fn decide(
        self,
        query: Consumption,
        context: LoadContext,
        record: RpcRecord,
    ) -> Result<ConsumeDecision, ApiError> {
        note_decision(&record, self.consumer.consume(query, context).await)
    }

    fn response(correlation_id: u64, outcome: Result<ConsumeDecision, ApiError>) -> Self::Response {
        use stream_consume_response::Result as Outcome;

        let result = match outcome {
            Ok(decision) => Outcome::Response(consume_response(decision)),
            Err(error) => Outcome::Error(status_message(error)),
        };
        v1::StreamConsumeResponse { correlation_id, result: Some(result) }
    }
}

/// Records a validation for the access log and the metrics.
fn note_validation(record: &RpcRecord, validation: &Validation) {
    match validation {
        Validation::Key(decision) => {
            let subject = DenialSubject::for_key(decision.key.as_ref());
            record.add_decision(decision.verdict, decision.provenance.source, subject);
        }
        Validation::Session(decision) => {
            let subject = DenialSubject::for_key(decision.session.as_ref().map(|session| &session.key));
            record.add_decision(decision.verdict, decision.provenance.source, subject);
        }
    }
}

/// Records a decision, or a failure, for the access log and the metrics.
fn note_decision(
    record: &RpcRecord,
    outcome: Result<ConsumeDecision, LimitError>,
) -> Result<ConsumeDecision, ApiError> {
    match &outcome {
        Ok(decision) => note_validation(record, &decision.validation),
        Err(LimitError::Store(error)) => record.add_undecided(error.kind),
        Err(LimitError::Undecided { .. }) => record.add_not_tried(),
        Err(LimitError::IdConflict | LimitError::TooManyLimits) => {}
    }
    Ok(outcome?)
}

/// Records a database failure for the access log.
fn note_failure<T>(record: &RpcRecord, outcome: Result<T, ReservationError>) -> Result<T, ApiError> {
    if let Err(ReservationError::Store(error)) = &outcome {
        record.set_failure(error.kind);
    }
    Ok(outcome?)
}
