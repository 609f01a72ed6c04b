//! `SessionService`.

use std::{sync::Arc, time::Duration};

use tenant_auth_proto::v1::{self, session_service_server::SessionService};
use tonic::{Request, Response, Status};

use crate::{
    domain::{
        session::SessionVerdict,
        sessions::{Bound, SessionError, SessionMemory, Sessions},
        store::Store,
        validate::KeySource,
        verdict::Source,
    },
    grpc::{
        context::{Context as _, RpcRecord},
        convert::{
            bind_request, bind_response, list_sessions_request, list_sessions_response, unbind_request,
        },
        denials::Subject,
        error::ApiError,
    },
};

/// How long a change may take when the caller sets no deadline.
const LIMIT: Duration = Duration::from_secs(10);

/// `SessionService` over [`Sessions`].
#[derive(Debug)]
pub struct SessionRpc<S, K, M>(Arc<Sessions<S, K, M>>);

impl<S: Store, K: KeySource, M: SessionMemory> SessionRpc<S, K, M> {
    /// Serves what callers want of sessions.
    pub fn new(sessions: Arc<Sessions<S, K, M>>) -> Self {
        Self(sessions)
    }
}

#[tonic::async_trait]
impl<S: Store, K: KeySource, M: SessionMemory> SessionService for SessionRpc<S, K, M> {
    async fn bind_session(
        &self,
        request: Request<v1::BindSessionRequest>,
    ) -> Result<Response<v1::BindSessionResponse>, Status> {
        let (ask, record) = (request.on_behalf(LIMIT)?, request.record());
        let order = bind_request(request.into_inner())?;
        let bound = noted(&record, self.0.bind(order, ask).await)?;
        let (verdict, subject) = match &bound {
            Bound::Done { .. } => (SessionVerdict::VALID, Subject::default()),
            Bound::Denied(verdict, key) => (*verdict, Subject::of(key.as_deref())),
        };
        record.decided(verdict, Source::Database, subject);
        Ok(Response::new(bind_response(bound)))
    }

    async fn unbind_session(
        &self,
        request: Request<v1::UnbindSessionRequest>,
    ) -> Result<Response<v1::UnbindSessionResponse>, Status> {
        let deadline = request.deadline(LIMIT)?;
        let (id, tenant) = unbind_request(request.get_ref())?;
        let was_bound = noted(&request.record(), self.0.unbind(id, tenant, deadline).await)?;
        Ok(Response::new(v1::UnbindSessionResponse { was_bound }))
    }

    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsResponse>, Status> {
        let deadline = request.deadline(LIMIT)?;
        let (tenant, page) = list_sessions_request(request.get_ref())?;
        let sessions = noted(&request.record(), self.0.list(tenant, page, deadline).await)?;
        Ok(Response::new(list_sessions_response(sessions)))
    }
}

/// Notes a failure of the database for the log line of its RPC.
fn noted<T>(record: &RpcRecord, outcome: Result<T, SessionError>) -> Result<T, ApiError> {
    if let Err(SessionError::Store(error)) = &outcome {
        record.failed(error.kind);
    }
    Ok(outcome?)
}
