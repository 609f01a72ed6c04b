//! Selects the requests to trace, and queues ended spans for the export.

use std::{sync::Arc, time::Duration};

use http::HeaderMap;
use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, TextMapPropagator as _},
    trace::{SpanBuilder, SpanKind, TraceContextExt as _, TraceId, Tracer as _, TracerProvider as _},
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    propagation::TraceContextPropagator,
    trace::{
        IdGenerator as _, RandomIdGenerator, SdkTracer, SdkTracerProvider, Span, SpanData, SpanProcessor,
    },
};
use tokio::sync::mpsc;

use crate::instruments::{counts::Counter, spans::TraceContext};

/// The maximum number of spans that wait for the export: one or two seconds of a busy replica. Further spans
/// are dropped and counted.
const MAX_QUEUED_SPANS: usize = 4_096;
/// The header with the caller's span.
const TRACEPARENT: &str = "traceparent";

/// Counts of spans by outcome.
#[derive(Debug, Default)]
pub struct SpanCounts {
    /// The collector accepted the span.
    pub exported: Counter,
    /// The queue was full.
    pub dropped: Counter,
    /// The collector did not accept the span.
    pub failed: Counter,
}

/// Selects the requests to trace and creates their spans. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RequestTracer {
    tracer: SdkTracer,
    sample_ratio: f64,
}

impl RequestTracer {
    /// Creates a tracer that traces all requests whose caller traces them, and the fraction `share` (0 to 1)
    /// of those whose caller sends no trace header. The receiver yields ended spans.
    #[must_use]
    pub fn new(share: f64, resource: Resource, counts: Arc<SpanCounts>) -> (Self, mpsc::Receiver<SpanData>) {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED_SPANS);
        let provider = SdkTracerProvider::builder()
            .with_span_processor(SpanQueue { sender, counts })
            .with_resource(resource)
            .build();
        (Self { tracer: provider.tracer("tenant-auth-svc"), sample_ratio: share }, receiver)
    }

    /// Returns the trace id of a request, if it has one, and its span, if the request is traced here. `name`
    /// is called only then. `random_fraction` is the sampling decision, if it was already drawn.
    pub fn start_trace(
        &self,
        headers: &HeaderMap,
        chance: Option<bool>,
        name: impl FnOnce() -> &'static str,
    ) -> (Option<TraceId>, Option<TraceContext>) {
        let parent = match headers.get(TRACEPARENT) {
            // What cannot be read is as good as nothing.
            Some(_) => {
                TraceContextPropagator::new().extract_with_context(&Context::new(), &HeaderCarrier(headers))
            }
            None => Context::new(),
        };
        let parent_span = parent.has_active_span().then(|| parent.span().span_context().clone());
        let traced = parent_span.as_ref().map_or_else(
            || chance.unwrap_or_else(|| self.draw_sample()),
            |parent_span| parent_span.is_sampled(),
        );
        if !traced {
            return (parent_span.map(|parent_span| parent_span.trace_id()), None);
        }
        let name = name();
        let attributes = [KeyValue::new("rpc.system.name", "grpc"), KeyValue::new("rpc.method", name)];
        let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Server).with_attributes(attributes);
        let span = self.tracer.build_with_context(builder, &parent);
        let within = TraceContext::new(&parent, span, self.tracer.clone());
        let id = within.context().span().span_context().trace_id();
        (Some(id), Some(within))
    }

    /// Returns whether the caller samples the request, by a quick check of the header; `None` if the header
    /// is missing.
    #[must_use]
    pub fn caller_sampled(&self, headers: &HeaderMap) -> Option<bool> {
        // The flags are at the end of the header; without the flag "sampled" they are zero.
        headers.get(TRACEPARENT).map(|parent| !parent.as_bytes().ends_with(b"-00"))
    }

    /// Draws a sampling decision. It is drawn before a span exists, because requests that are not traced must
    /// cost nothing.
    pub fn draw_sample(&self) -> bool {
        if self.sample_ratio <= 0.0 {
            return false;
        }
        // The id generator is local to the thread, and all bits of its ids are random.
        let drawn = RandomIdGenerator::default().new_span_id().to_bytes();
        let drawn = u64::from_be_bytes(drawn) >> 11;
        // A floating-point number holds 53 bits.
        (drawn as f64) / ((1_u64 << 53) as f64) < self.sample_ratio
    }
}

struct HeaderCarrier<'a>(&'a HeaderMap);

impl Extractor for HeaderCarrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// Queues ended spans for the export. Never waits.
#[derive(Debug)]
struct SpanQueue {
    sender: mpsc::Sender<SpanData>,
    counts: Arc<SpanCounts>,
}

impl SpanProcessor for SpanQueue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.sender.try_send(span).is_err() {
            self.counts.dropped.increment();
        }
    }

    // The exporter empties the queue on shutdown.

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RPC: &str = "tenantauth.v1.InfoService/GetServerInfo";
    const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";

    fn tracing(share: f64) -> (RequestTracer, mpsc::Receiver<SpanData>, Arc<SpanCounts>) {
        let counts = Arc::new(SpanCounts::default());
        let (tracing, spans) =
            RequestTracer::new(share, Resource::builder_empty().build(), Arc::clone(&counts));
        (tracing, spans, counts)
    }

    fn headers_with_parent(parent: &str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(TRACEPARENT), parent.parse().unwrap())])
    }

    #[test]
    fn sampling_follows_the_caller_or_the_ratio() {
        let sampled = headers_with_parent(&format!("00-{TRACE_ID}-b7ad6b7169203331-01"));
        let not_sampled = headers_with_parent(&format!("00-{TRACE_ID}-b7ad6b7169203331-00"));
        let unreadable = headers_with_parent("00-nothing");
        for (share, headers, id, traced) in [
            (0.0, &sampled, true, true),
            (1.0, &not_sampled, true, false),
            (0.0, &unreadable, false, false),
            (1.0, &unreadable, false, true),
            (0.0, &HeaderMap::new(), false, false),
            (1.0, &HeaderMap::new(), false, true),
        ] {
            let (found, within) = tracing(share).0.start_trace(headers, None, || RPC);
            assert_eq!(within.is_some(), traced, "{headers:?}, {share}");
            assert_eq!(found.is_some_and(|found| found.to_string() == TRACE_ID), id, "{headers:?}, {share}");
        }
        let (half, ..) = tracing(0.5);
        let traced = (0..10_000).filter(|_| half.draw_sample()).count();
        assert!((4_500..5_500).contains(&traced), "{traced}");
    }

    #[test]
    fn rpc_span_is_below_the_callers_and_above_its_calls() {
        let (tracing, mut spans, _) = tracing(0.0);
        let (_, within) = tracing.start_trace(
            &headers_with_parent(&format!("00-{TRACE_ID}-b7ad6b7169203331-01")),
            None,
            || RPC,
        );
        let within = within.unwrap();
        assert!(
            crate::instruments::spans::start_child_span("call").is_none(),
            "outside of it, nothing is traced"
        );
        let held = within.context().clone().attach();
        drop(crate::instruments::spans::start_child_span("call").unwrap());
        drop(held);
        within.context().span().end();
        let (call, rpc) = (spans.try_recv().unwrap(), spans.try_recv().unwrap());
        assert_eq!(call.parent_span_id, rpc.span_context.span_id());
        assert_eq!(rpc.parent_span_id.to_string(), "b7ad6b7169203331");
        for span in [&call, &rpc] {
            assert_eq!(span.span_context.trace_id().to_string(), TRACE_ID);
        }
    }

    #[test]
    fn spans_beyond_the_queue_are_dropped_and_counted() {
        let (tracing, spans, counts) = tracing(1.0);
        for _ in 0..MAX_QUEUED_SPANS + 3 {
            let (_, within) = tracing.start_trace(&HeaderMap::new(), None, || RPC);
            within.unwrap().context().span().end();
        }
        assert_eq!((counts.dropped.get(), spans.len()), (3, MAX_QUEUED_SPANS));
    }
}
