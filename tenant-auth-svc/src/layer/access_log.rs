//! One line per RPC, when it is over; of many that end alike, the log writes some and counts the others.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::Code;
use tower::{Layer, Service};

use super::{
    metrics::{OTHER, name},
    trace::TraceId,
};
use crate::{
    grpc::{
        Malformed,
        context::{Caller, RequestId, RpcRecord},
        denials::{self, DenialLog},
    },
    telemetry::logging::RPC_TARGET,
};

/// Writes the line. It comes when the last byte is out, or when the caller has gone.
#[derive(Clone, Copy, Debug, Default)]
pub struct AccessLogLayer;

impl<S> Layer<S> for AccessLogLayer {
    type Service = AccessLog<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AccessLog { inner }
    }
}

/// The service of [`AccessLogLayer`].
#[derive(Clone, Debug)]
pub struct AccessLog<S> {
    inner: S,
}

impl<S, In, Out> Service<Request<In>> for AccessLog<S>
where
    S: Service<Request<In>, Response = Response<Out>>,
{
    type Response = Response<LoggedBody<Out>>;
    type Error = S::Error;
    type Future = Logged<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        let extensions = request.extensions();
        let rpc = name(request.uri().path());
        let request_id = extensions.get::<RequestId>().cloned();
        let caller = extensions.get::<Caller>().cloned();
        let record = extensions.get::<RpcRecord>().cloned().unwrap_or_default();
        if denials::wanted() {
            record.log_denials(DenialLog { rpc, request_id: request_id.clone(), caller: caller.clone() });
        }
        let line = Line {
            rpc,
            path: unknown(request.uri().path()),
            request_id,
            caller,
            trace_id: extensions.get::<TraceId>().copied(),
            record,
            started: Instant::now(),
            written: false,
        };
        Logged { answer: self.inner.call(request), line: Some(line) }
    }
}

pin_project! {
    /// The future of [`AccessLog`].
    pub struct Logged<F> {
        #[pin]
        answer: F,
        line: Option<Line>,
    }
}

impl<F, Out, E> Future for Logged<F>
where
    F: Future<Output = Result<Response<Out>, E>>,
{
    type Output = Result<Response<LoggedBody<Out>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.answer.poll(cx))?;
        let mut line = this.line.take();
        // An error is sent in the headers; whatever else comes in the trailers.
        if let (Some(line), Some(code)) = (&mut line, code_in(response.headers())) {
            line.write(Some(code));
        }
        Poll::Ready(Ok(response.map(|body| LoggedBody { body, line })))
    }
}

pin_project! {
    /// A body that writes the line when it ends.
    pub struct LoggedBody<B> {
        #[pin]
        body: B,
        line: Option<Line>,
    }
}

impl<B: Body> Body for LoggedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(cx));
        if let (Some(line), Some(Ok(frame))) = (this.line.as_mut(), &frame)
            && let Some(trailers) = frame.trailers_ref()
        {
            line.write(code_in(trailers));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn code_in(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()))
}

/// What tells unknown paths apart, for a person. Paths are made up by callers, and may be as long as a request's head.
fn unknown(path: &str) -> Option<String> {
    (name(path) == OTHER).then(|| Malformed::quoted(path.as_bytes()))
}

/// Whether an RPC belongs to the daily traffic, of which a line for each would bury everything else.
fn is_routine(rpc: &str) -> bool {
    ["ValidationService/", "SessionService/", "UsageService/RecordUsage"]
        .iter()
        .any(|routine| rpc.strip_prefix("tenantauth.v1.").is_some_and(|rpc| rpc.starts_with(routine)))
}

#[derive(Debug)]
struct Line {
    rpc: &'static str,
    /// The beginning of a path that leads to no RPC.
    path: Option<String>,
    request_id: Option<RequestId>,
    caller: Option<Caller>,
    trace_id: Option<TraceId>,
    record: RpcRecord,
    started: Instant,
    written: bool,
}

/// The level has to be a constant where an event is written.
macro_rules! event {
    ($level:ident, $line:ident, $code:expr) => {{
        let verdict = $line.record.verdict();
        let decisions = $line.record.decisions();
        tracing::$level!(
            target: RPC_TARGET,
            rpc = $line.rpc,
            path = $line.path,
            request_id = $line.request_id.as_ref().map(|id| &*id.0),
            caller = $line.caller.as_ref().map(|caller| &*caller.0),
            trace_id = $line.trace_id.map(|TraceId(id)| tracing::field::display(id)),
            code = $code,
            verdict = verdict.map(|(verdict, _)| verdict.as_str()),
            source = verdict.map(|(_, source)| source.as_str()),
            decided = (decisions > 1).then_some(decisions),
            undecided = Some($line.record.undecided()).filter(|undecided| *undecided > 0),
            database = $line.record.failure().map(|kind| kind.as_str()),
            duration_us = u64::try_from($line.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            "rpc"
        )
    }};
}

impl Line {
    fn write(&mut self, code: Option<Code>) {
        if std::mem::replace(&mut self.written, true) {
            return;
        }
        let line = self;
        // A body dropped before its trailers: the caller did not wait for the end.
        let name = code.map_or("Cancelled(by caller)".to_owned(), |code| format!("{code:?}"));
        match code {
            // What probes and tools ask all the time, and what reflection answers in the course of things.
            Some(Code::Ok | Code::NotFound) if line.rpc.starts_with("grpc.") => event!(debug, line, name),
            // Thousands a second, denials among them: metrics count them, and a filter shows them when they are wanted.
            Some(Code::Ok) if is_routine(line.rpc) => event!(debug, line, name),
            Some(Code::Internal | Code::Unknown | Code::DataLoss) => event!(error, line, name),
            Some(
                Code::Unavailable
                | Code::ResourceExhausted
                | Code::DeadlineExceeded
                | Code::Unauthenticated
                | Code::PermissionDenied,
            ) => event!(warn, line, name),
            _ => event!(info, line, name),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.write(None);
    }
}
