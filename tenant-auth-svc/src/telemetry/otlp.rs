//! Exports spans and metrics to a collector, with OTLP over gRPC.
//!
//! Only the tasks of this module wait for the collector. If the collector is unreachable, hangs or refuses,
//! spans are lost; they are counted and not retried. Every export has the current values of all metrics, so a
//! failed one loses only the values of that time.

mod metrics;
mod spans;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use http::HeaderMap;
use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use tokio::{sync::watch, task::JoinHandle};
use tonic::{
    Request, Status,
    metadata::MetadataMap,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, ClientTlsConfig, Endpoint},
};

use super::{
    snapshot::MetricsSnapshot,
    traces::{RequestTracer, SpanCounts},
};
use crate::{config::OtlpConfig, instruments::counts::Counter};

/// The timeout of one request to the collector, including the connection.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Collects the current values of the metrics.
pub type SnapshotSource = Box<dyn Fn() -> MetricsSnapshot + Send>;

/// Counts of exports by outcome.
#[derive(Debug, Default)]
pub struct OtlpCounts {
    /// Counts of spans.
    pub spans: Arc<SpanCounts>,
    /// Counts of requests with spans.
    pub traces: ExportOutcomes,
    /// Counts of requests with metrics.
    pub metrics: ExportOutcomes,
}

/// Counts of one kind of request by outcome.
#[derive(Debug, Default)]
pub struct ExportOutcomes {
    /// The collector accepted the request.
    pub ok: Counter,
    /// The collector did not accept the request.
    pub failed: Counter,
    /// Whether the last request failed: a failure is logged once, not at each repetition.
    is_failing: AtomicBool,
}

impl ExportOutcomes {
    fn record(&self, what: &'static str, outcome: Result<(), &Status>) {
        match outcome {
            Ok(()) => {
                self.ok.increment();
                if self.is_failing.swap(false, Ordering::Relaxed) {
                    tracing::info!(what, "OTLP export works again");
                }
            }
            Err(status) => {
                self.failed.increment();
                if !self.is_failing.swap(true, Ordering::Relaxed) {
                    let (code, error) = (status.code(), status.message());
                    tracing::warn!(what, ?code, error, "OTLP export failed");
                }
            }
        }
    }
}

/// A channel to the collector with the configured headers.
type CollectorChannel = InterceptedService<Channel, ExportHeaders>;

/// The headers of every request.
#[derive(Clone)]
struct ExportHeaders(MetadataMap);

impl ExportHeaders {
    fn new(headers: &HeaderMap) -> Self {
        Self(MetadataMap::from_headers(headers.clone()))
    }
}

impl Interceptor for ExportHeaders {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().as_mut().extend(self.0.clone().into_headers());
        Ok(request)
    }
}

/// Span export that is not started yet.
pub struct OtlpExporter {
    collector: CollectorChannel,
    request_tracer: RequestTracer,
    ended_spans: tokio::sync::mpsc::Receiver<opentelemetry_sdk::trace::SpanData>,
    resource: Resource,
    counts: Arc<OtlpCounts>,
}

impl std::fmt::Debug for OtlpExporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Otlp").finish_non_exhaustive()
    }
}

impl OtlpExporter {
    /// Prepares the export to the configured collector. Opens no connection yet.
    ///
    /// # Errors
    /// If the system's root certificates cannot be read, for a collector with `https://`.
    pub fn new(
        config: &OtlpConfig,
        version: &'static str,
        counts: Arc<OtlpCounts>,
    ) -> Result<Self, tonic::transport::Error> {
        let mut endpoint =
            Endpoint::from(config.endpoint.clone()).connect_timeout(REQUEST_TIMEOUT).timeout(REQUEST_TIMEOUT);
        if config.endpoint.scheme_str() == Some("https") {
            endpoint = endpoint.tls_config(ClientTlsConfig::new().with_native_roots())?;
        }
        // A later attribute replaces an earlier one of the same name: configured values replace defaults, and
        // the version always is that of the build.
        let attributes =
            config.attributes.iter().map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
        let resource = Resource::builder_empty()
            .with_service_name("tenant-auth-svc")
            .with_attribute(KeyValue::new("service.instance.id", uuid::Uuid::now_v7().to_string()))
            .with_attributes(attributes)
            .with_attributes(config.service_name.clone().map(|name| KeyValue::new("service.name", name)))
            .with_attribute(KeyValue::new("service.version", version))
            .build();
        let (tracing, ended) =
            RequestTracer::new(config.sample_ratio, resource.clone(), Arc::clone(&counts.spans));
        let collector = InterceptedService::new(endpoint.connect_lazy(), ExportHeaders::new(&config.headers));
        Ok(Self { collector, request_tracer: tracing, ended_spans: ended, resource, counts })
    }

    /// Returns the tracer of requests.
    #[must_use]
    pub fn request_tracer(&self) -> RequestTracer {
        self.request_tracer.clone()
    }

    /// Starts the export: spans as they end, and every 30 s the result of `snapshot_source`.
    #[must_use]
    pub fn start(self, snapshot_source: SnapshotSource) -> RunningExporter {
        let (end, ending) = watch::channel(false);
        let spans = spans::SpanSender::new(
            self.collector.clone(),
            &self.resource,
            self.ended_spans,
            Arc::clone(&self.counts),
        );
        let metrics = metrics::MetricsSender::new(
            self.collector,
            &self.resource,
            snapshot_source,
            self.counts,
            SystemTime::now(),
        );
        let tasks = [tokio::spawn(spans.run(ending.clone())), tokio::spawn(metrics.run(ending))];
        RunningExporter { shutdown: end, tasks }
    }
}

/// The running export. It stops when this value is dropped.
#[derive(Debug)]
pub struct RunningExporter {
    shutdown: watch::Sender<bool>,
    tasks: [JoinHandle<()>; 2],
}

impl RunningExporter {
    /// Exports the remaining spans and metrics, within a timeout.
    pub async fn shutdown(mut self, timeout: Duration) {
        self.shutdown.send_replace(true);
        let [spans, metrics] = &mut self.tasks;
        if tokio::time::timeout(timeout, async { tokio::join!(spans, metrics) }).await.is_err() {
            tracing::warn!("final OTLP export timed out");
        }
    }
}

impl Drop for RunningExporter {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
