//! The layer for MCP servers with a fake service, and a server behind it that the test controls.

mod responses;
mod sessions;
mod settings;
mod vectors;

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{Request, Response, request::Parts};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use serde_json::Value;
use tenant_auth_client::{McpBody, McpLayer, McpRequestBody};
use tower::{Layer as _, ServiceExt as _, service_fn};

/// A request body that notes whether it was read.
struct NotingBody {
    bytes: Option<Bytes>,
    was_read: Arc<AtomicBool>,
}

impl Body for NotingBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.was_read.store(true, Ordering::SeqCst);
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// The server behind the layer.
#[derive(Clone)]
struct Server {
    answer: Arc<dyn Fn(&Parts) -> Answer + Send + Sync>,
    reads_bodies: bool,
    seen: Arc<Mutex<Vec<(Parts, Bytes)>>>,
}

/// What the client gets.
struct Received {
    response: Response<McpBody>,
    was_read: bool,
}

impl Server {
    fn new(answer: impl Fn(&Parts) -> Answer + Send + Sync + 'static) -> Self {
        Self { answer: Arc::new(answer), reads_bodies: true, seen: Arc::default() }
    }

    /// Returns the requests that have arrived since the last call.
    fn take_seen(&self) -> Vec<(Parts, Bytes)> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    async fn respond(self, request: Request<McpRequestBody<NotingBody>>) -> Result<Answer, Infallible> {
        let (parts, body) = request.into_parts();
        let bytes = if self.reads_bodies { body.collect().await.unwrap().to_bytes() } else { Bytes::new() };
        let answer = (self.answer)(&parts);
        self.seen.lock().unwrap().push((parts, bytes));
        Ok(answer)
    }

    async fn send(&self, layer: &McpLayer, request: Request<Bytes>) -> Received {
        let was_read = Arc::new(AtomicBool::new(false));
        let request = request.map(|bytes| NotingBody { bytes: Some(bytes), was_read: Arc::clone(&was_read) });
        let server = self.clone();
        let inner = service_fn(move |request| server.clone().respond(request));
        let response = layer.layer(inner).oneshot(request).await.unwrap();
        Received { response, was_read: was_read.load(Ordering::SeqCst) }
    }
}

impl Received {
    fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name).map(|value| value.to_str().unwrap())
    }

    async fn text(self) -> String {
        let bytes = self.response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    async fn json(self) -> Value {
        serde_json::from_str(&self.text().await).unwrap()
    }
}

/// Returns a response with a body of a type.
fn answer(content_type: &str, body: &str) -> Answer {
    let chunk = Frame::data(Bytes::from(body.to_owned()));
    let body = StreamBody::new(stream::iter([Ok(chunk)]));
    Response::builder().header("content-type", content_type).body(body.boxed_unsync()).unwrap()
}

/// Returns a stream of events that does not end by itself.
fn open_stream(beginning: &str) -> Answer {
    let chunk = Frame::data(Bytes::from(beginning.to_owned()));
    let body = StreamBody::new(stream::iter([Ok(chunk)]).chain(stream::pending()));
    Response::builder().header("content-type", "text/event-stream").body(body.boxed_unsync()).unwrap()
}

/// Returns a request with the key `k`, headers and a body.
fn request(method: &str, headers: &[(&str, &str)], body: &str) -> Request<Bytes> {
    let builder = Request::builder().method(method).uri("/mcp").header("authorization", "Bearer k");
    let builder = headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
    builder.body(Bytes::from(body.to_owned())).unwrap()
}
