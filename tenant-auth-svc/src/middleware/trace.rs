//! A span for each RPC that is traced, below that of its caller.
//!
//! Without a collector there is nothing here but one look at an option per RPC.

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
    metrics::name,
    rpc_observer::{Followed, FollowedBody, Follower},
};
use crate::{
    grpc::context::{RequestId, RpcRecord},
    instruments::spans::Within,
    telemetry::traces::Tracing,
};

/// Names the trace that a request belongs to, in the log too.
#[derive(Clone, Copy, Debug)]
pub struct TraceId(pub opentelemetry::trace::TraceId);

/// What chance has decided about a request whose caller says nothing about traces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chance(pub(crate) bool);

/// Traces RPCs, if there is anything to trace with.
#[derive(Clone, Debug)]
pub struct TraceLayer(Option<Tracing>);

impl TraceLayer {
    /// Traces with this.
    #[must_use]
    pub fn new(tracing: Option<Tracing>) -> Self {
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
    tracing: Option<Tracing>,
}

impl<S, In, Out> Service<Request<In>> for Trace<S>
where
    S: Service<Request<In>, Response = Response<Out>>,
    Out: Body,
{
    type Response = Response<FollowedBody<Out, Traced>>;
    type Error = S::Error;
    type Future = Followed<S::Future, Traced>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<In>) -> Self::Future {
        let traced = self.tracing.as_ref().and_then(|tracing| begin(tracing, &mut request));
        Followed::new(self.inner.call(request), traced)
    }
}

fn begin<In>(tracing: &Tracing, request: &mut Request<In>) -> Option<Traced> {
    let chance = request.extensions().get::<Chance>().map(|chance| chance.0);
    let (id, within) = tracing.begin(request.headers(), chance, || name(request.uri().path()));
    if let Some(id) = id {
        request.extensions_mut().insert(TraceId(id));
    }
    let within = within?;
    if let Some(RequestId(id)) = request.extensions().get::<RequestId>() {
        within.context().span().set_attribute(KeyValue::new("tenant_auth.request_id", id.to_string()));
    }
    Some(Traced { within, record: request.extensions().get::<RpcRecord>().cloned() })
}

/// The span of an RPC under way.
#[derive(Debug)]
pub struct Traced {
    within: Within,
    record: Option<RpcRecord>,
}

impl Follower for Traced {
    type Held = ContextGuard;

    fn enter(&self) -> ContextGuard {
        self.within.context().clone().attach()
    }

    fn piece(&mut self) {}

    fn end(&mut self, code: Option<Code>) {
        let span = self.within.context().span();
        let say = |name: &'static str, value: &'static str| span.set_attribute(KeyValue::new(name, value));
        if let Some(record) = &self.record {
            if let Some((verdict, source)) = record.verdict() {
                say("tenant_auth.verdict", verdict.as_str());
                say("tenant_auth.source", source.as_str());
            }
            if let Some(kind) = record.failure() {
                say("tenant_auth.database", kind.as_str());
            }
        }
        let code = code.unwrap_or(Code::Cancelled);
        span.set_attribute(KeyValue::new("rpc.grpc.status_code", i64::from(code as i32)));
        if is_ours(code) {
            span.set_status(Status::Error { description: Cow::Borrowed(code.description()) });
        }
        span.end();
    }
}

/// Whether an end is the service's fault rather than the caller's, by the conventions for spans of servers.
fn is_ours(code: Code) -> bool {
    match code {
        Code::Unknown
        | Code::DeadlineExceeded
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unauthenticated => false,
    }
}
