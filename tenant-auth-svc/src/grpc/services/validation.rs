//! `ValidationService`.

mod stream;

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::Stream;
use tenant_auth_proto::v1::{self, batch_validate_keys_result, validation_service_server::ValidationService};
use tonic::{Request, Response, Status, Streaming};

use self::stream::{Answers, Messages};
use crate::{
    domain::{
        sessions::{SessionMemory, Sessions},
        store::{Store, StoreError},
        validate::{KeySource, Validator},
        verdict::Decision,
    },
    grpc::{
        context::{Context as _, RpcRecord},
        convert::{batch_questions, decision_message, question, session_decision_message, session_question},
        denials::Subject,
        error::ApiError,
        status::as_message,
    },
};

/// `ValidationService` over a [`Validator`] and [`Sessions`].
#[derive(Debug)]
pub struct ValidationRpc<S, K, M> {
    keys: Arc<Validator<K>>,
    sessions: Arc<Sessions<S, K, M>>,
    limit: Duration,
}

impl<S: Store, K: KeySource, M: SessionMemory> ValidationRpc<S, K, M> {
    /// Serves decisions about keys and about sessions. Each may take `limit`, or less if its caller says so.
    pub fn new(keys: Arc<Validator<K>>, sessions: Arc<Sessions<S, K, M>>, limit: Duration) -> Self {
        Self { keys, sessions, limit }
    }
}

#[tonic::async_trait]
impl<S: Store, K: KeySource, M: SessionMemory> ValidationService for ValidationRpc<S, K, M> {
    type StreamValidateKeysStream =
        Pin<Box<dyn Stream<Item = Result<v1::StreamValidateKeysResponse, Status>> + Send>>;

    async fn validate_key(
        &self,
        request: Request<v1::ValidateKeyRequest>,
    ) -> Result<Response<v1::ValidateKeyResponse>, Status> {
        let (ask, record) = (request.on_behalf(self.limit)?, request.record());
        let question = question(request.into_inner())?;
        let decision = noted(&record, self.keys.decide(&question, ask).await)?;
        Ok(Response::new(decision_message(decision)))
    }

    async fn batch_validate_keys(
        &self,
        request: Request<v1::BatchValidateKeysRequest>,
    ) -> Result<Response<v1::BatchValidateKeysResponse>, Status> {
        use batch_validate_keys_result::Result as Outcome;

        let (ask, record) = (request.on_behalf(self.limit)?, request.record());
        let (questions, places) = batch_questions(request.into_inner())?.split();
        let decisions = self.keys.decide_all(&questions, ask).await;
        let decided = decisions.into_iter().map(|decision| noted(&record, decision));
        let results = places.fill(decided).map(|outcome| {
            let result = match outcome {
                Ok(decision) => Outcome::Response(decision_message(decision)),
                Err(error) => Outcome::Error(as_message(error)),
            };
            v1::BatchValidateKeysResult { result: Some(result) }
        });
        Ok(Response::new(v1::BatchValidateKeysResponse { results: results.collect() }))
    }

    async fn stream_validate_keys(
        &self,
        request: Request<Streaming<v1::StreamValidateKeysRequest>>,
    ) -> Result<Response<Self::StreamValidateKeysStream>, Status> {
        let messages = Messages {
            validator: Arc::clone(&self.keys),
            record: request.record(),
            budget: request.budget(self.limit),
            asker: request.asker(),
            place: request.leave_place(),
        };
        Ok(Response::new(Box::pin(Answers::new(messages, request.into_inner()))))
    }

    async fn validate_session(
        &self,
        request: Request<v1::ValidateSessionRequest>,
    ) -> Result<Response<v1::ValidateSessionResponse>, Status> {
        let (ask, record) = (request.on_behalf(self.limit)?, request.record());
        let question = session_question(request.into_inner())?;
        let decision = self.sessions.decide(question, ask).await;
        let decision =
            decision.inspect_err(|error| record.undecidable(error.kind)).map_err(ApiError::from)?;
        let subject = Subject::of(decision.session.as_deref().map(|session| &session.key));
        record.decided(decision.verdict, decision.provenance.source, subject);
        Ok(Response::new(session_decision_message(decision)))
    }
}

/// Notes an outcome for the log line of its RPC.
fn noted(record: &RpcRecord, outcome: Result<Decision, StoreError>) -> Result<Decision, ApiError> {
    match &outcome {
        Ok(decision) => {
            record.decided(
                decision.verdict,
                decision.provenance.source,
                Subject::of(decision.key.as_deref()),
            );
        }
        Err(error) => record.undecidable(error.kind),
    }
    Ok(outcome?)
}
