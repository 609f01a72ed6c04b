//! One TCP connection: HTTP on it, and how it ends, in order or by a reset.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    sync::{Notify, watch},
};

use crate::{
    fault::Fault,
    pipeline::{self, PipelineAnswer},
    server::{ConnectionEnd, ServerState},
    write_lock::Client,
};

/// Serves one connection until either side ends it.
pub(crate) async fn serve(
    shared: Arc<ServerState>,
    socket: TcpStream,
    mut end: watch::Receiver<ConnectionEnd>,
) {
    shared.counters.update(|counters| {
        counters.connections += 1;
        counters.open_connections += 1;
    });
    // A second handle on the socket, to set the option that turns the close into a reset just before it.
    let handle = socket2::SockRef::from(&socket).try_clone();
    let reset = Arc::new(Notify::new());
    let service = {
        let (shared, reset) = (Arc::clone(&shared), Arc::clone(&reset));
        service_fn(move |request| {
            let (shared, reset) = (Arc::clone(&shared), Arc::clone(&reset));
            async move { Ok::<_, Infallible>(route(&shared, request, &reset).await) }
        })
    };
    let mut http = Box::pin(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
    let violent = loop {
        tokio::select! {
            // An error means that the peer has disconnected.
            _ = http.as_mut() => break false,
            () = reset.notified() => break true,
            changed = end.changed() => match changed.map(|()| *end.borrow_and_update()) {
                Ok(ConnectionEnd::WhenIdle) => http.as_mut().graceful_shutdown(),
                Ok(ConnectionEnd::Never) => {}
                Ok(ConnectionEnd::Reset) | Err(_) => break true,
            },
        }
    };
    if violent && let Ok(handle) = &handle {
        // Without this option the peer would see an orderly close.
        let _ = handle.set_linger(Some(Duration::ZERO));
    }
    drop(http);
    drop(handle);
    shared.counters.update(|counters| counters.open_connections -= 1);
}

async fn route(
    shared: &Arc<ServerState>,
    request: Request<Incoming>,
    reset: &Arc<Notify>,
) -> Response<ResponseBody> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/health") => full_response(200, "text/plain", ""),
        (&Method::GET, "/version") => full_response(200, "text/plain", "hrana-test-server"),
        (&Method::GET, "/v2" | "/v3") => {
            full_response(200, "text/plain", "Hello, this is HTTP API v2 (Hrana over HTTP)")
        }
        (&Method::POST, "/v2/pipeline" | "/v3/pipeline") => handle_pipeline(shared, request, reset).await,
        _ => full_response(404, "text/plain", ""),
    }
}

async fn handle_pipeline(
    shared: &Arc<ServerState>,
    request: Request<Incoming>,
    reset: &Arc<Notify>,
) -> Response<ResponseBody> {
    let may_write = match shared.tokens.authorize(request.headers()) {
        Ok(may_write) => may_write,
        Err(body) => {
            shared.counters.update(|counters| {
                counters.requests += 1;
                counters.unauthorized += 1;
            });
            return full_response(401, "application/json", body);
        }
    };
    let Ok(body) = request.into_body().collect().await else {
        return full_response(400, "text/plain", "Could not read request body");
    };
    let body = body.to_bytes();
    shared.counters.update(|counters| {
        counters.requests += 1;
        counters.open_requests += 1;
        counters.max_open_requests = counters.max_open_requests.max(counters.open_requests);
    });
    shared.statement_log.record(&body);
    let _open = OpenRequestGuard(shared);
    let (fault, mut change) = shared.faults.next_fault(&String::from_utf8_lossy(&body));
    match &fault {
        Some(Fault::Hang) => change.wait().await,
        // The only fault that consists of time. With tokio's paused clock it elapses at once.
        Some(Fault::Latency(latency)) => {
            let _ = tokio::time::timeout(*latency, std::future::pending::<()>()).await;
        }
        Some(Fault::ResetBeforeExecute) => return reset_connection(reset).await,
        Some(Fault::Status { code, content_type, body, retry_after }) => {
            let mut response = full_response(*code, content_type, body.clone());
            if let Some(seconds) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, (*seconds).into());
            }
            return response;
        }
        _ => {}
    }
    // A read replica forwards requests that may write to its primary as a whole, as sqld's does.
    let primary = shared.primary.as_ref().filter(|_| pipeline::may_change(&body));
    if primary.is_some() {
        shared.partition.wait().await;
    }
    let runs_it = Arc::clone(primary.unwrap_or(shared));
    let client = runs_it.write_lock.client();
    let _leaves = ClientGuard(client.clone());
    let run = {
        let fault = fault.clone();
        move || pipeline::run(&runs_it, &body, may_write, fault.as_ref(), &client)
    };
    let Ok(PipelineAnswer { status, content_type, mut body }) = tokio::task::spawn_blocking(run).await else {
        return full_response(500, "application/json", r#"{"error":"Internal Error"}"#);
    };
    if fault == Some(Fault::HangAfterExecute) {
        change.wait().await;
    }
    match fault {
        Some(Fault::ResetAfterCommit) => reset_connection(reset).await,
        Some(Fault::ResetMidBody) => {
            let body = Bytes::from(body);
            let half = body.slice(..body.len() / 2);
            build_response(status, content_type, ResponseBody::truncated(half, body.len(), reset))
        }
        Some(Fault::TruncatedJson) => {
            body.truncate(body.len() / 2);
            full_response(status, content_type, body)
        }
        _ => full_response(status, content_type, body),
    }
}

/// Ends the connection instead of sending a response.
async fn reset_connection(reset: &Arc<Notify>) -> Response<ResponseBody> {
    reset.notify_one();
    std::future::pending().await
}

/// Reports the client as disconnected when dropped. After a response this has no effect.
struct ClientGuard(Client);

impl Drop for ClientGuard {
    fn drop(&mut self) {
        self.0.disconnect();
    }
}

struct OpenRequestGuard<'a>(&'a ServerState);

impl Drop for OpenRequestGuard<'_> {
    fn drop(&mut self) {
        self.0.counters.update(|counters| counters.open_requests -= 1);
    }
}

fn full_response(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Response<ResponseBody> {
    build_response(status, content_type, ResponseBody::full(body.into()))
}

fn build_response(status: u16, content_type: &'static str, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    // The status codes come from constants of this crate.
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}

/// A body that is sent in full, or interrupted by a reset after its first part.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    first_part: Option<Bytes>,
    content_length: u64,
    reset_after: Option<Arc<Notify>>,
}

impl ResponseBody {
    fn full(body: Bytes) -> Self {
        Self { content_length: body.len() as u64, first_part: Some(body), reset_after: None }
    }

    fn truncated(part: Bytes, announced: usize, reset: &Arc<Notify>) -> Self {
        Self {
            first_part: Some(part),
            content_length: announced as u64,
            reset_after: Some(Arc::clone(reset)),
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(part) = self.first_part.take() {
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        match &self.reset_after {
            // The rest is never sent: the connection is reset.
            Some(reset) => {
                reset.notify_one();
                Poll::Pending
            }
            None => Poll::Ready(None),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.content_length)
    }
}
