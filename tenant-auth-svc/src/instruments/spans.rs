//! Spans of requests that are traced.
//!
//! What a request is traced with is in the context that its layer attaches while it runs, together with the tracer: whoever
//! does something on its behalf finds both there, and needs to be told of neither. Most requests are not traced, and
//! then there is nothing to find.

use std::borrow::Cow;

use opentelemetry::{
    Context, KeyValue, Value,
    context::FutureExt as _,
    trace::{Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _},
};
use opentelemetry_sdk::trace::{SdkTracer, Span};

/// On whose behalf something runs.
#[derive(Clone, Debug, Default)]
pub struct TraceContext(Context);

impl TraceContext {
    /// A span that is traced, and the tracer for those below it.
    #[must_use]
    pub fn new(parent: &Context, span: Span, tracer: SdkTracer) -> Self {
        Self(parent.with_span(span).with_value(tracer))
    }

    /// On whose behalf this runs.
    #[must_use]
    pub fn current() -> Self {
        Self(Context::current())
    }

    /// Whether that is traced.
    #[must_use]
    pub fn is_traced(&self) -> bool {
        self.0.get::<SdkTracer>().is_some()
    }

    /// The context.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.0
    }

    /// Has something run on the same behalf, in a task of its own too.
    pub fn run<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        future.with_context(self.0)
    }
}

/// Begins a span below that of the request on whose behalf this runs, if that is traced.
#[must_use]
pub fn start_child_span(name: &'static str) -> Option<ChildSpan> {
    Context::map_current(|context| {
        let tracer = context.get::<SdkTracer>()?;
        let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Client);
        Some(ChildSpan(tracer.build_with_context(builder, context)))
    })
}

/// A span below that of a request. It ends when dropped, as what it is about does.
#[derive(Debug)]
pub struct ChildSpan(Span);

impl ChildSpan {
    /// Says something about it. Never a secret, and nothing that a customer sent.
    pub fn set_attribute(&mut self, name: &'static str, value: impl Into<Value>) {
        self.0.set_attribute(KeyValue::new(name, value));
    }

    /// Says that it failed.
    pub fn set_error(&mut self, kind: &'static str) {
        self.0.set_status(Status::Error { description: Cow::Borrowed(kind) });
    }
}
