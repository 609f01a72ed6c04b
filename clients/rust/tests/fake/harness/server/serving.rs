//! The RPCs of the fake service.

use std::{
    pin::Pin,
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

use futures::Stream;
use tenant_auth_client::proto as v1;
use tenant_auth_proto::v1::{
    session_service_server::SessionService, usage_service_server::UsageService,
    validation_service_server::ValidationService, watch_service_server::WatchService,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{State, provenance};
use crate::harness::until;

type Events = UnboundedReceiverStream<Result<v1::WatchResponse, Status>>;
type Answers = Pin<Box<dyn Stream<Item = Result<v1::StreamValidateKeysResponse, Status>> + Send>>;

impl State {
    /// Counts a request. Its answer is the one at arrival, even if it is held back.
    pub(super) async fn asked<T, R>(&self, request: &Request<T>, answer: R) -> Result<Response<R>, Status> {
        let authorization = request.metadata().get("authorization");
        *self.authorization.lock().unwrap() = authorization.map(|value| value.to_str().unwrap().to_owned());
        let failure = self.failures.lock().unwrap().pop_front();
        self.asked.fetch_add(1, Ordering::SeqCst);
        until(|| !self.held.load(Ordering::SeqCst)).await;
        failure.map_or_else(|| Ok(Response::new(answer)), Err)
    }
}

#[tonic::async_trait]
impl ValidationService for State {
    async fn validate_key(
        &self,
        request: Request<v1::ValidateKeyRequest>,
    ) -> Result<Response<v1::ValidateKeyResponse>, Status> {
        let message = request.get_ref();
        if message.required_scopes.iter().any(|scope| scope.contains(' ')) {
            return Err(Status::invalid_argument("required_scopes[0]"));
        }
        let known = self.keys.lock().unwrap().get(&message.key).cloned();
        // An unknown key has no id, so no invalidation can name it.
        let unknown = v1::ValidateKeyResponse {
            verdict: v1::Verdict::Unknown.into(),
            provenance: Some(v1::Provenance { cacheable_while_watched: None, ..provenance(1) }),
            ..Default::default()
        };
        self.asked(&request, known.unwrap_or(unknown)).await
    }

    async fn batch_validate_keys(
        &self,
        _: Request<v1::BatchValidateKeysRequest>,
    ) -> Result<Response<v1::BatchValidateKeysResponse>, Status> {
        Err(Status::unimplemented("no batches"))
    }

    type StreamValidateKeysStream = Answers;

    async fn stream_validate_keys(
        &self,
        _: Request<Streaming<v1::StreamValidateKeysRequest>>,
    ) -> Result<Response<Answers>, Status> {
        Err(Status::unimplemented("no streams"))
    }

    async fn validate_session(
        &self,
        request: Request<v1::ValidateSessionRequest>,
    ) -> Result<Response<v1::ValidateSessionResponse>, Status> {
        self.sessions_asked.fetch_add(1, Ordering::SeqCst);
        let known = self.sessions.lock().unwrap().get(&request.get_ref().session_id).cloned();
        let unbound = v1::ValidateSessionResponse {
            verdict: v1::Verdict::Unbound.into(),
            provenance: Some(provenance(1)),
            ..Default::default()
        };
        self.asked(&request, known.unwrap_or(unbound)).await
    }
}

#[tonic::async_trait]
impl SessionService for State {
    async fn bind_session(
        &self,
        request: Request<v1::BindSessionRequest>,
    ) -> Result<Response<v1::BindSessionResponse>, Status> {
        let message = request.get_ref().clone();
        let key = self.keys.lock().unwrap().get(&message.key).cloned().unwrap_or_default();
        let later = SystemTime::now() + Duration::from_secs(3_600);
        let session = v1::Session {
            session_id: message.session_id.clone(),
            tenant_id: key.tenant_id.clone(),
            key_id: key.key_id.clone(),
            created_at: Some(SystemTime::now().into()),
            expires_at: Some(later.into()),
            expiry: message.expiry,
            attributes: message.attributes.clone(),
        };
        let answer =
            v1::BindSessionResponse { verdict: key.verdict, session: Some(session), ..Default::default() };
        let answer = self.asked(&request, answer).await?;
        let bound = v1::ValidateSessionResponse {
            attributes: message.attributes,
            tenant_id: key.tenant_id,
            ..super::session()
        };
        self.sessions.lock().unwrap().insert(message.session_id, bound);
        Ok(answer)
    }

    async fn unbind_session(
        &self,
        request: Request<v1::UnbindSessionRequest>,
    ) -> Result<Response<v1::UnbindSessionResponse>, Status> {
        let was_bound = self.sessions.lock().unwrap().remove(&request.get_ref().session_id).is_some();
        self.asked(&request, v1::UnbindSessionResponse { was_bound, revision: 0 }).await
    }

    async fn list_sessions(
        &self,
        _: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsResponse>, Status> {
        Err(Status::unimplemented("no lists"))
    }
}

#[tonic::async_trait]
impl UsageService for State {
    async fn record_usage(
        &self,
        request: Request<v1::RecordUsageRequest>,
    ) -> Result<Response<v1::RecordUsageResponse>, Status> {
        let events = request.into_inner().events;
        let accepted = events.len().try_into().unwrap();
        self.usage.lock().unwrap().extend(events);
        Ok(Response::new(v1::RecordUsageResponse { accepted, ..Default::default() }))
    }

    async fn query_usage(
        &self,
        _: Request<v1::QueryUsageRequest>,
    ) -> Result<Response<v1::QueryUsageResponse>, Status> {
        Err(Status::unimplemented("no sums"))
    }
}

#[tonic::async_trait]
impl WatchService for State {
    type WatchStream = Events;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Events>, Status> {
        let from = request.get_ref().resume_after_revision;
        if self.unserved.load(Ordering::SeqCst) {
            self.resumed.lock().unwrap().push(from);
            return Err(Status::unimplemented("not served by this version"));
        }
        let (watcher, events) = mpsc::unbounded_channel();
        let log = self.log.lock().unwrap();
        for event in log.iter().filter(|event| from > 0 && event.revision > from) {
            watcher.send(Ok(event.clone())).unwrap();
        }
        self.watchers.lock().unwrap().push(watcher);
        self.resumed.lock().unwrap().push(from);
        Ok(Response::new(UnboundedReceiverStream::new(events)))
    }
}
