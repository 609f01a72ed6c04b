//! `SessionService`.

use std::{sync::Arc, time::Duration};

use tenant_auth_proto::v1::{self, session_service_server::SessionService};
use tonic::{Request, Response, Status};

use crate::{
    domain::{
        session::SessionVerdict,
        sessions::{BindOutcome, SessionCache, SessionError, Sessions},
        store::Store,
        validate::KeySource,
        verdict::Source,
    },
    grpc::{
        context::{RequestContext as _, RpcRecord},
        convert::{
            bind_response, list_sessions_response, parse_bind_session, parse_list_sessions,
            parse_unbind_session,
        },
        denials::DenialSubject,
        error::ApiError,
    },
};

/// The time limit of a call whose caller sets no deadline.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// `SessionService` over [`Sessions`].
#[derive(Debug)]
pub struct SessionRpc<S, K, M>(Arc<Sessions<S, K, M>>);

impl<S: Store, K: KeySource, M: SessionCache> SessionRpc<S, K, M> {
    /// Creates the service.
    pub fn new(sessions: Arc<Sessions<S, K, M>>) -> Self {
        Self(sessions)
    }
}

#[tonic::async_trait]
impl<S: Store, K: KeySource, M: SessionCache> SessionService for SessionRpc<S, K, M> {
    async fn bind_session(
        &self,
        request: Request<v1::BindSessionRequest>,
    ) -> Result<Response<v1::BindSessionResponse>, Status> {
        let (context, record) = (request.load_context(SESSION_TIMEOUT)?, request.rpc_record());
        let session = parse_bind_session(request.into_inner())?;
        let bound = note_failure(&record, self.0.bind(session, context).await)?;
        let (verdict, subject) = match &bound {
            BindOutcome::Bound { .. } => (SessionVerdict::VALID, DenialSubject::default()),
            BindOutcome::Denied(verdict, key) => (*verdict, DenialSubject::for_key(key.as_ref())),
        };
        record.add_decision(verdict, Source::Database, subject);
        Ok(Response::new(bind_response(bound)))
    }

    async fn unbind_session(
        &self,
        request: Request<v1::UnbindSessionRequest>,
    ) -> Result<Response<v1::UnbindSessionResponse>, Status> {
        let deadline = request.deadline(SESSION_TIMEOUT)?;
        let (id, tenant, reason) = parse_unbind_session(request.get_ref())?;
        let reason = reason.map(|reason| (reason, request.actor()));
        let unbound = self.0.unbind(id, tenant, reason, deadline).await;
        let unbound = note_failure(&request.rpc_record(), unbound)?;
        Ok(Response::new(v1::UnbindSessionResponse {
            was_bound: unbound.outcome,
            revision: unbound.revision.0,
        }))
    }

    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsResponse>, Status> {
        let deadline = request.deadline(SESSION_TIMEOUT)?;
        let (tenant, page) = parse_list_sessions(request.get_ref())?;
        let sessions = note_failure(&request.rpc_record(), self.0.list(tenant, page, deadline).await)?;
        Ok(Response::new(list_sessions_response(sessions)))
    }
}

/// Records a database failure for the access log.
fn note_failure<T>(record: &RpcRecord, outcome: Result<T, SessionError>) -> Result<T, ApiError> {
    if let Err(SessionError::Store(error)) = &outcome {
        record.set_failure(error.kind);
    }
    Ok(outcome?)
}
