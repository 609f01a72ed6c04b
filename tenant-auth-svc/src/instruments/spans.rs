//! Spans of traced requests.
//!
//! The trace middleware attaches the span and the tracer to the current context while a request runs: code that works
//! for the request finds both there, without a parameter. Most requests are not traced; then the context is empty.

use std::borrow::Cow;

use opentelemetry::{
    Context, KeyValue, Value,
    context::FutureExt as _,
    trace::{Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _},
};
use opentelemetry_sdk::trace::{SdkTracer, Span};

/// The trace context of the current request.
#[derive(Clone, Debug, Default)]
pub struct TraceContext(Context);

impl TraceContext {
    /// Creates a context with a traced span and the tracer for its child spans.
    #[must_use]
    pub fn new(parent: &Context, span: Span, tracer: SdkTracer) -> Self {
        Self(parent.with_span(span).with_value(tracer))
    }

    /// Returns the current context.
    #[must_use]
    pub fn current() -> Self {
        Self(Context::current())
    }

    /// Whether the request is traced.
    #[must_use]
    pub fn is_traced(&self) -> bool {
        self.0.get::<SdkTracer>().is_some()
    }

    /// The OpenTelemetry context.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.0
    }

    /// Runs a future in this context, also in another task.
    pub fn run<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        future.with_context(self.0)
    }
}

/// Starts a child span of the current request's span, if the request is traced.
#[must_use]
pub fn start_child_span(name: &'static str) -> Option<ChildSpan> {
    Context::map_current(|context| {
        let tracer = context.get::<SdkTracer>()?;
        let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Client);
        Some(ChildSpan(tracer.build_with_context(builder, context)))
    })
}

/// A child span of a request. It ends when dropped.
#[derive(Debug)]
pub struct ChildSpan(Span);

impl ChildSpan {
    /// Sets an attribute. Never a secret, and nothing that an end user sent.
    pub fn set_attribute(&mut self, name: &'static str, value: impl Into<Value>) {
        self.0.set_attribute(KeyValue::new(name, value));
    }

    /// Marks the span as failed.
    pub fn set_error(&mut self, kind: &'static str) {
        self.0.set_status(Status::Error { description: Cow::Borrowed(kind) });
    }
}
