//! What happens to the response of the service behind the layer.

use std::future::poll_fn;

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING},
    request::Parts,
};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use serde_json::{json, value::RawValue};
use tower_service::Service;

use super::{
    body::{BoxError, McpRequestBody, Notes},
    builder::Settings,
    decision,
    events::FilteredEvents,
    exchange::{McpBody, boxed},
    lists::ListFilter,
    rejection::{ENDED, McpRejection, error_object},
    session,
};
use crate::{
    Client, Ended, Error, GuardedSse, Limits, NotAdmitted, Principal, guard::EndEvent,
    layer::SESSION_ID_HEADER,
};

/// What is known of a request when its response arrives.
pub(super) struct Reply {
    pub(super) client: Client,
    pub(super) principal: Principal,
    pub(super) request_id: Option<String>,
    /// Empty if the request has no costs.
    pub(super) limits: Limits,
    pub(super) is_handshake: bool,
    pub(super) session_id: Option<String>,
    pub(super) filter: Option<ListFilter>,
    pub(super) request_ids: Vec<Box<RawValue>>,
    /// The body, if the layer has not read it.
    pub(super) notes: Option<Notes>,
    pub(super) method: Method,
    /// A request that may open a session, to end one that cannot be bound.
    pub(super) opening: Option<Parts>,
}

impl Reply {
    /// Completes a response: binds or unbinds its session, filters its lists, and guards its stream.
    pub(super) async fn complete<S, B, R>(
        self,
        settings: &Settings,
        inner: &mut S,
        mut response: Response<R>,
    ) -> Result<Response<McpBody>, McpRejection>
    where
        S: Service<Request<McpRequestBody<B>>, Response = Response<R>> + Send,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError>,
    {
        if !self.is_handshake {
            response.headers_mut().remove(SESSION_ID_HEADER);
        } else if let Some(opened) = self.opened_session(&response) {
            if let Err(rejection) = self.bind(settings, &opened).await {
                drop(response);
                self.end_session(inner, opened).await;
                return Err(rejection);
            }
        } else if let Some(ended) = self.ended_session(response.status()) {
            session::unbind(&self.client, ended, self.principal.tenant_id()).await;
        }
        if self.filter.is_some() && response.headers().contains_key(CONTENT_ENCODING) {
            let error = Error::Unreachable { message: "a compressed list cannot be filtered".to_owned() };
            return Err(self.undecided(settings, error));
        }
        if has_type(&response, "text/event-stream") {
            return self.guard(settings, response);
        }
        match &self.filter {
            Some(filter) if has_type(&response, "application/json") => {
                self.filter_body(settings, filter, response).await
            }
            _ => Ok(response.map(boxed)),
        }
    }

    /// Returns the session that a response opens: another one than that of the request.
    fn opened_session<R>(&self, response: &Response<R>) -> Option<HeaderValue> {
        let opened =
            response.headers().get(SESSION_ID_HEADER).filter(|_| response.status().as_u16() < 400)?;
        let continued = self.session_id.as_ref().is_some_and(|id| id.as_bytes() == opened.as_bytes());
        (!continued).then(|| opened.clone())
    }

    /// Returns the session that the client has ended, and the server knows no longer.
    fn ended_session(&self, status: StatusCode) -> Option<&str> {
        let has_ended = status.is_success() || status == StatusCode::NOT_FOUND;
        self.session_id.as_deref().filter(|_| self.method == Method::DELETE && has_ended)
    }

    async fn bind(&self, settings: &Settings, opened: &HeaderValue) -> Result<(), McpRejection> {
        let Some(key) = self.principal.credentials().and_then(|all| all.key()) else { return Ok(()) };
        let authenticator = &settings.authenticator;
        let request_id = self.request_id.as_deref();
        session::bind(authenticator, &self.client, opened, settings.session_ttl, key, request_id).await
    }

    /// Ends a session whose id was not sent to the client. Otherwise the server would collect sessions in an outage.
    async fn end_session<S, B, R>(self, inner: &mut S, opened: HeaderValue)
    where
        S: Service<Request<McpRequestBody<B>>, Response = Response<R>> + Send,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        R: Send,
    {
        let Some(mut parts) = self.opening else { return };
        parts.method = Method::DELETE;
        for name in [CONTENT_TYPE, CONTENT_LENGTH, TRANSFER_ENCODING] {
            parts.headers.remove(name);
        }
        parts.headers.insert(SESSION_ID_HEADER, opened);
        let request = Request::from_parts(parts, McpRequestBody::read(Bytes::new()));
        let is_ready = poll_fn(|cx| inner.poll_ready(cx)).await.is_ok();
        if !is_ready || !inner.call(request).await.is_ok_and(|response| response.status().is_success()) {
            tracing::warn!("session that could not be bound stays open in the server until it is idle");
        }
    }

    /// Returns the rejection for an error on this side, and logs it.
    fn undecided(&self, settings: &Settings, error: Error) -> McpRejection {
        let request_id = self.request_id.as_deref();
        settings.authenticator.rejection(NotAdmitted::Undecided(error), request_id).into()
    }

    /// Guards a stream of events, and filters it.
    fn guard<R>(self, settings: &Settings, response: Response<R>) -> Result<Response<McpBody>, McpRejection>
    where
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError>,
    {
        let guarded = self.client.guard_connection(&self.principal);
        let guard = guarded.map_err(|error| self.undecided(settings, error))?;
        let end_event = self.end_event();
        Ok(match self.filter {
            Some(filter) => response
                .map(|body| boxed(GuardedSse::new(guard, FilteredEvents::new(body, filter), end_event))),
            None => response.map(|body| boxed(GuardedSse::new(guard, body, end_event))),
        })
    }

    /// Returns the last events of a stream that is ended: an error for each request. A GET stream answers none.
    fn end_event(&self) -> EndEvent {
        let noted = self.notes.as_ref().map(|notes| decision::request_ids(&notes.read()));
        let ids = noted.unwrap_or_else(|| self.request_ids.clone());
        Box::new(move |ended: &Ended| {
            let error = json!({ "code": ENDED, "message": ended.detail(), "data": { "code": ended.code() } });
            let event =
                |id: &RawValue| format!("event: message\ndata: {}\n\n", error_object(Some(id), &error));
            ids.iter().map(|id| event(id)).collect()
        })
    }

    async fn filter_body<R>(
        &self,
        settings: &Settings,
        filter: &ListFilter,
        response: Response<R>,
    ) -> Result<Response<McpBody>, McpRejection>
    where
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError>,
    {
        let (mut parts, body) = response.into_parts();
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => {
                let error = Error::Unreachable { message: error.into().to_string() };
                return Err(self.undecided(settings, error));
            }
        };
        let filtered = str::from_utf8(&body).ok().and_then(|json| filter.filter(json));
        let body = filtered.map_or(body, Bytes::from);
        parts.headers.remove(TRANSFER_ENCODING);
        parts.headers.insert(CONTENT_LENGTH, body.len().into());
        Ok(Response::from_parts(parts, boxed(Full::new(body))))
    }
}

fn has_type<R>(response: &Response<R>, name: &str) -> bool {
    let value = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case(name))
}
