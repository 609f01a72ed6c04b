//! `ValidationService`.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::Stream;
use tenant_auth_proto::v1::{
    self, batch_validate_keys_result, stream_validate_keys_response,
    validation_service_server::ValidationService,
};
use tonic::{Request, Response, Status, Streaming};

use super::response_stream::{ResponseStream, StreamContext, StreamedRpc};
use crate::{
    domain::{
        sessions::{SessionCache, Sessions},
        store::{Store, StoreError},
        unknown_lookup_limiter::LoadContext,
        validate::{KeyQuery, KeySource, Validator},
        verdict::Decision,
    },
    grpc::{
        context::{RequestContext as _, RpcRecord},
        convert::{
            decision_message, parse_key_query, parse_key_query_batch, parse_session_query,
            session_decision_message,
        },
        denials::DenialSubject,
        error::ApiError,
        status::status_message,
    },
};

/// `ValidationService` over a [`Validator`] and [`Sessions`].
#[derive(Debug)]
pub struct ValidationRpc<S, K, M> {
    keys: Arc<Validator<K>>,
    sessions: Arc<Sessions<S, K, M>>,
    timeout: Duration,
}

impl<S: Store, K: KeySource, M: SessionCache> ValidationRpc<S, K, M> {
    /// Creates the service. Each decision may take `timeout`, or less if the caller's deadline is earlier.
    pub fn new(keys: Arc<Validator<K>>, sessions: Arc<Sessions<S, K, M>>, timeout: Duration) -> Self {
        Self { keys, sessions, timeout }
    }
}

#[tonic::async_trait]
impl<S: Store, K: KeySource, M: SessionCache> ValidationService for ValidationRpc<S, K, M> {
    type StreamValidateKeysStream =
        Pin<Box<dyn Stream<Item = Result<v1::StreamValidateKeysResponse, Status>> + Send>>;

    async fn validate_key(
        &self,
        request: Request<v1::ValidateKeyRequest>,
    ) -> Result<Response<v1::ValidateKeyResponse>, Status> {
        let (context, record) = (request.load_context(self.timeout)?, request.rpc_record());
        let query = parse_key_query(request.into_inner())?;
        let decision = note_decision(&record, self.keys.decide(&query, context).await)?;
        Ok(Response::new(decision_message(decision)))
    }

    async fn batch_validate_keys(
        &self,
        request: Request<v1::BatchValidateKeysRequest>,
    ) -> Result<Response<v1::BatchValidateKeysResponse>, Status> {
        use batch_validate_keys_result::Result as Outcome;

        let (context, record) = (request.load_context(self.timeout)?, request.rpc_record());
        let (queries, errors) = parse_key_query_batch(request.into_inner())?.into_parts();
        let decisions = self.keys.decide_all(&queries, context).await;
        let decided = decisions.into_iter().map(|decision| note_decision(&record, decision));
        let results = errors.merge_outcomes(decided).map(|outcome| {
            let result = match outcome {
                Ok(decision) => Outcome::Response(decision_message(decision)),
                Err(error) => Outcome::Error(status_message(error)),
            };
            v1::BatchValidateKeysResult { result: Some(result) }
        });
        Ok(Response::new(v1::BatchValidateKeysResponse { results: results.collect() }))
    }

    async fn stream_validate_keys(
        &self,
        request: Request<Streaming<v1::StreamValidateKeysRequest>>,
    ) -> Result<Response<Self::StreamValidateKeysStream>, Status> {
        let context = StreamContext {
            record: request.rpc_record(),
            budget: request.budget(self.timeout),
            lookup_origin: request.lookup_origin(),
            permit: request.release_permit(),
        };
        let rpc = StreamedValidation(Arc::clone(&self.keys));
        Ok(Response::new(Box::pin(ResponseStream::new(rpc, context, request.into_inner()))))
    }

    async fn validate_session(
        &self,
        request: Request<v1::ValidateSessionRequest>,
    ) -> Result<Response<v1::ValidateSessionResponse>, Status> {
        let (context, record) = (request.load_context(self.timeout)?, request.rpc_record());
        let query = parse_session_query(request.into_inner())?;
        let decision = self.sessions.decide(query, context).await;
        let decision =
            decision.inspect_err(|error| record.add_undecided(error.kind)).map_err(ApiError::from)?;
        let subject = DenialSubject::for_key(decision.session.as_ref().map(|session| &session.key));
        record.add_decision(decision.verdict, decision.provenance.source, subject);
        Ok(Response::new(session_decision_message(decision)))
    }
}

/// `StreamValidateKeys`.
struct StreamedValidation<K>(Arc<Validator<K>>);

impl<K> Clone for StreamedValidation<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: KeySource> StreamedRpc for StreamedValidation<K> {
    type Message = v1::StreamValidateKeysRequest;
    type Query = KeyQuery;
    type Decision = Decision;
    type Response = v1::StreamValidateKeysResponse;

    fn parse(&self, message: Self::Message) -> (u64, Result<KeyQuery, ApiError>) {
        (message.correlation_id, parse_key_query(message.request.unwrap_or_default()))
    }

    fn decide_now(&self, query: &KeyQuery, record: &RpcRecord) -> Option<Decision> {
        let decision = self.0.decide_from_cache(&query.key, &query.required_scopes, query.client_address)?;
        let subject = DenialSubject::for_key(decision.key.as_ref());
        record.add_decision(decision.verdict, decision.provenance.source, subject);
        Some(decision)
    }

    async fn decide(
        self,
        query: KeyQuery,
        context: LoadContext,
        record: RpcRecord,
    ) -> Result<Decision, ApiError> {
        note_decision(&record, self.0.decide(&query, context).await)
    }

    fn response(correlation_id: u64, outcome: Result<Decision, ApiError>) -> Self::Response {
        use stream_validate_keys_response::Result as Outcome;

        let result = match outcome {
            Ok(decision) => Outcome::Response(decision_message(decision)),
            Err(error) => Outcome::Error(status_message(error)),
        };
        v1::StreamValidateKeysResponse { correlation_id, result: Some(result) }
    }
}

/// Records a decision, or a failure, for the access log and the metrics.
fn note_decision(record: &RpcRecord, outcome: Result<Decision, StoreError>) -> Result<Decision, ApiError> {
    match &outcome {
        Ok(decision) => {
            record.add_decision(
                decision.verdict,
                decision.provenance.source,
                DenialSubject::for_key(decision.key.as_ref()),
            );
        }
        Err(error) => record.add_undecided(error.kind),
    }
    Ok(outcome?)
}
