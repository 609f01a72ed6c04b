//! Creates a span for each traced RPC, as a child of the caller's span.
//!
//! Without a collector, the cost is one check of an `Option` per RPC.

use std::{
    borrow::Cow,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::Body;
use opentelemetry::{
    ContextGuard, KeyValue,
    trace::{Status, TraceContextExt as _},
};
use tonic::Code;
use tower::{Layer, Service};

use super::{
    metrics::rpc_name,
    rpc_observer::{ObservedBody, ObservedFuture, RpcObserver},
};
use crate::{
    grpc::{
        code,
        context::{RequestId, RpcRecord},
    },
    instruments::spans::TraceContext,
    telemetry::traces::RequestTracer,
};

/// The trace of a request, for the log.
#[derive(Clone, Copy, Debug)]
pub struct TraceId {
    /// The trace.
    pub trace: opentelemetry::trace::TraceId,
    /// The span of the request, if it is traced here.
    pub span: Option<opentelemetry::trace::SpanId>,
}

/// The sampling decision about a request without a `traceparent`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SamplingDecision(pub(crate) bool);

/// Traces RPCs if a tracer is configured.
#[derive(Clone, Debug)]
pub struct TraceLayer(Option<RequestTracer>);

impl TraceLayer {
    /// Creates a layer that uses `tracing`.
    #[must_use]
    pub fn new(tracing: Option<RequestTracer>) -> Self {
        Self(tracing)
    }
}

impl<S> Layer<S> for TraceLayer {
    type Service = Trace<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Trace { inner, tracing: self.0.clone() }
    }
}

/// The service of [`TraceLayer`].
#[derive(Clone, Debug)]
pub struct Trace<S> {
    inner: S,
    tracing: Option<RequestTracer>,
}

impl<S, In, Out> Service<Request<In>> for Trace<S>
where
    S: Service<Request<In>, Response = Response<Out>>,
    Out: Body,
{
    type Response = Response<ObservedBody<Out, RpcSpan>>;
    type Error = S::Error;
    type Future = ObservedFuture<S::Future, RpcSpan>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<In>) -> Self::Future {
        let traced = self.tracing.as_ref().and_then(|tracing| start_span(tracing, &mut request));
        ObservedFuture::new(self.inner.call(request), traced)
    }
}

fn start_span<In>(tracing: &RequestTracer, request: &mut Request<In>) -> Option<RpcSpan> {
    let chance = request.extensions().get::<SamplingDecision>().map(|chance| chance.0);
    let (id, within) = tracing.start_trace(request.headers(), chance, || rpc_name(request.uri().path()));
    if let Some(id) = id {
        let span = within.as_ref().map(|within| within.context().span().span_context().span_id());
        request.extensions_mut().insert(TraceId { trace: id, span });
    }
    let within = within?;
    if let Some(RequestId(id)) = request.extensions().get::<RequestId>() {
        within.context().span().set_attribute(KeyValue::new("tenant_auth.request_id", id.to_string()));
    }
    Some(RpcSpan { trace_context: within, record: request.extensions().get::<RpcRecord>().cloned() })
}

/// The span of an RPC in progress.
#[derive(Debug)]
pub struct RpcSpan {
    trace_context: TraceContext,
    record: Option<RpcRecord>,
}

impl RpcObserver for RpcSpan {
    type Held = ContextGuard;

    fn enter(&self) -> ContextGuard {
        self.trace_context.context().clone().attach()
    }

    fn on_data(&mut self, _: &[u8]) {}

    fn on_end(&mut self, code: Option<Code>) {
        let span = self.trace_context.context().span();
        let set = |name: &'static str, value: &'static str| span.set_attribute(KeyValue::new(name, value));
        if let Some(record) = &self.record {
            if let Some((verdict, source)) = record.verdict() {
                set("tenant_auth.verdict", verdict.as_str());
                set("tenant_auth.source", source.as_str());
            }
            if let Some(kind) = record.failure() {
                set("tenant_auth.database", kind.as_str());
            }
        }
        let code = code.unwrap_or(Code::Cancelled);
        set("rpc.response.status_code", code::canonical_name(code));
        if code::is_server_error(code) {
            set("error.type", code::canonical_name(code));
            span.set_status(Status::Error { description: Cow::Borrowed(code.description()) });
        }
        span.end();
    }
}
