//! Which requests are traced, and the queue of spans that wait to be sent.

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

/// How many spans may wait to be sent: a second or two of a busy replica. Beyond that they are dropped and counted.
const MAX_QUEUED_SPANS: usize = 4_096;
/// Where a caller names its own span.
const TRACEPARENT: &str = "traceparent";

/// What became of spans.
#[derive(Debug, Default)]
pub struct SpanCounts {
    /// The collector took them.
    pub exported: Counter,
    /// There was no room for them.
    pub dropped: Counter,
    /// The collector did not take them.
    pub failed: Counter,
}

/// Decides which requests are traced, and traces them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RequestTracer {
    tracer: SdkTracer,
    sample_ratio: f64,
}

impl RequestTracer {
    /// Traces all requests whose caller does, and a share (0 to 1) of those whose caller says nothing about it. Spans that
    /// have ended come out of the receiver.
    #[must_use]
    pub fn new(share: f64, resource: Resource, counts: Arc<SpanCounts>) -> (Self, mpsc::Receiver<SpanData>) {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED_SPANS);
        let provider = SdkTracerProvider::builder()
            .with_span_processor(SpanQueue { sender, counts })
            .with_resource(resource)
            .build();
        (Self { tracer: provider.tracer("tenant-auth-svc"), sample_ratio: share }, receiver)
    }

    /// The trace that a request belongs to, if there is one, and its span, if that is traced here.
    /// `name` is asked for only then. `random_fraction` is what chance has decided already, if it was asked.
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
        let said = parent.has_active_span().then(|| parent.span().span_context().clone());
        let traced = said
            .as_ref()
            .map_or_else(|| chance.unwrap_or_else(|| self.draw_sample()), |said| said.is_sampled());
        if !traced {
            return (said.map(|said| said.trace_id()), None);
        }
        let name = name();
        let attributes = [KeyValue::new("rpc.system.name", "grpc"), KeyValue::new("rpc.method", name)];
        let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Server).with_attributes(attributes);
        let span = self.tracer.build_with_context(builder, &parent);
        let within = TraceContext::new(&parent, span, self.tracer.clone());
        let id = within.context().span().span_context().trace_id();
        (Some(id), Some(within))
    }

    /// Whether the caller says that a request is traced, as far as can be told at a glance; `None` if it says nothing.
    #[must_use]
    pub fn caller_sampled(&self, headers: &HeaderMap) -> Option<bool> {
        // The flags are last; without the one for "sampled" they are zero.
        headers.get(TRACEPARENT).map(|parent| !parent.as_bytes().ends_with(b"-00"))
    }

    /// One in so many, at random. Before there is a span: those that are not traced must cost nothing.
    pub fn draw_sample(&self) -> bool {
        if self.sample_ratio <= 0.0 {
            return false;
        }
        // The generator is the thread's own, and its ids are random in all their bits.
        let drawn = RandomIdGenerator::default().new_span_id().to_bytes();
        let drawn = u64::from_be_bytes(drawn) >> 11;
        // 53 bits are what a floating-point number holds.
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

/// Puts spans that have ended where they wait to be sent. Never waits.
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

    // Whoever sends them empties the queue at the end.

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
