//! Sends spans and metrics to a collector, by OTLP over gRPC.
//!
//! Nothing waits for the collector but the tasks here. One that is away, hangs or refuses costs spans, which are counted
//! and not tried again; metrics are told whole each time, so that nothing of them is lost but a moment.

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

/// How long the collector may take for one request, its connection included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Gathers the numbers of this moment.
pub type SnapshotSource = Box<dyn Fn() -> MetricsSnapshot + Send>;

/// What became of what was sent.
#[derive(Debug, Default)]
pub struct OtlpCounts {
    /// Of spans.
    pub spans: Arc<SpanCounts>,
    /// Requests with spans.
    pub traces: ExportOutcomes,
    /// Requests with metrics.
    pub metrics: ExportOutcomes,
}

/// What became of requests of one kind.
#[derive(Debug, Default)]
pub struct ExportOutcomes {
    /// The collector took them.
    pub ok: Counter,
    /// It did not.
    pub failed: Counter,
    /// The last one failed: said once, not each time.
    is_failing: AtomicBool,
}

impl ExportOutcomes {
    fn record(&self, what: &'static str, outcome: Result<(), &Status>) {
        match outcome {
            Ok(()) => {
                self.ok.increment();
                if self.is_failing.swap(false, Ordering::Relaxed) {
                    tracing::info!(what, "the collector takes what is sent to it again");
                }
            }
            Err(status) => {
                self.failed.increment();
                if !self.is_failing.swap(true, Ordering::Relaxed) {
                    let (code, error) = (status.code(), status.message());
                    tracing::warn!(what, ?code, error, "the collector did not take what was sent to it");
                }
            }
        }
    }
}

/// The collector, as it wants to be asked.
type CollectorChannel = InterceptedService<Channel, ExportHeaders>;

/// What goes with every request.
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

/// Traces on their way to a collector that is not asked yet.
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
    /// Prepares to send to the collector that a configuration names. Connects to nothing yet.
    ///
    /// # Errors
    /// When the roots that the system trusts cannot be read, for a collector behind `https://`.
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
        // The later one of a name counts: what is asked for goes before what is by default, and the version is what it is.
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

    /// What to trace with.
    #[must_use]
    pub fn request_tracer(&self) -> RequestTracer {
        self.request_tracer.clone()
    }

    /// Sends from now on: spans as they end, and every 30 s what `collect_batch` says.
    #[must_use]
    pub fn start(self, gather: SnapshotSource) -> RunningExporter {
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
            gather,
            self.counts,
            SystemTime::now(),
        );
        let tasks = [tokio::spawn(spans.run(ending.clone())), tokio::spawn(metrics.run(ending))];
        RunningExporter { shutdown: end, tasks }
    }
}

/// Sends for as long as it exists.
#[derive(Debug)]
pub struct RunningExporter {
    shutdown: watch::Sender<bool>,
    tasks: [JoinHandle<()>; 2],
}

impl RunningExporter {
    /// Sends what there still is, for so long at most.
    pub async fn shutdown(mut self, patience: Duration) {
        self.shutdown.send_replace(true);
        let [spans, metrics] = &mut self.tasks;
        if tokio::time::timeout(patience, async { tokio::join!(spans, metrics) }).await.is_err() {
            tracing::warn!("the collector did not take the last spans and metrics in time");
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
