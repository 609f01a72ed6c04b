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
    snapshot::Snapshot,
    traces::{SpanCounts, Tracing},
};
use crate::{config::OtlpConfig, instruments::counts::Counter};

/// How long the collector may take for one request, its connection included.
const PATIENCE: Duration = Duration::from_secs(10);

/// Gathers the numbers of this moment.
pub type Gather = Box<dyn Fn() -> Snapshot + Send>;

/// What became of what was sent.
#[derive(Debug, Default)]
pub struct OtlpCounts {
    /// Of spans.
    pub spans: Arc<SpanCounts>,
    /// Requests with spans.
    pub traces: Outcomes,
    /// Requests with metrics.
    pub metrics: Outcomes,
}

/// What became of requests of one kind.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// The collector took them.
    pub ok: Counter,
    /// It did not.
    pub failed: Counter,
    /// The last one failed: said once, not each time.
    failing: AtomicBool,
}

impl Outcomes {
    fn note(&self, what: &'static str, outcome: Result<(), &Status>) {
        match outcome {
            Ok(()) => {
                self.ok.one();
                if self.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!(what, "the collector takes what is sent to it again");
                }
            }
            Err(status) => {
                self.failed.one();
                if !self.failing.swap(true, Ordering::Relaxed) {
                    let (code, error) = (status.code(), status.message());
                    tracing::warn!(what, ?code, error, "the collector did not take what was sent to it");
                }
            }
        }
    }
}

/// The collector, as it wants to be asked.
type Collector = InterceptedService<Channel, Headers>;

/// What goes with every request.
#[derive(Clone)]
struct Headers(MetadataMap);

impl Headers {
    fn new(headers: &HeaderMap) -> Self {
        Self(MetadataMap::from_headers(headers.clone()))
    }
}

impl Interceptor for Headers {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().as_mut().extend(self.0.clone().into_headers());
        Ok(request)
    }
}

/// Traces on their way to a collector that is not asked yet.
pub struct Otlp {
    collector: Collector,
    tracing: Tracing,
    ended: tokio::sync::mpsc::Receiver<opentelemetry_sdk::trace::SpanData>,
    resource: Resource,
    counts: Arc<OtlpCounts>,
}

impl std::fmt::Debug for Otlp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Otlp").finish_non_exhaustive()
    }
}

impl Otlp {
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
            Endpoint::from(config.endpoint.clone()).connect_timeout(PATIENCE).timeout(PATIENCE);
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
        let (tracing, ended) = Tracing::new(config.sample, resource.clone(), Arc::clone(&counts.spans));
        let collector = InterceptedService::new(endpoint.connect_lazy(), Headers::new(&config.headers));
        Ok(Self { collector, tracing, ended, resource, counts })
    }

    /// What to trace with.
    #[must_use]
    pub fn tracing(&self) -> Tracing {
        self.tracing.clone()
    }

    /// Sends from now on: spans as they end, and every 30 s what `gather` says.
    #[must_use]
    pub fn send(self, gather: Gather) -> Sending {
        let (end, ending) = watch::channel(false);
        let spans =
            spans::Spans::new(self.collector.clone(), &self.resource, self.ended, Arc::clone(&self.counts));
        let metrics =
            metrics::Metrics::new(self.collector, &self.resource, gather, self.counts, SystemTime::now());
        let tasks = [tokio::spawn(spans.send(ending.clone())), tokio::spawn(metrics.send(ending))];
        Sending { end, tasks }
    }
}

/// Sends for as long as it exists.
#[derive(Debug)]
pub struct Sending {
    end: watch::Sender<bool>,
    tasks: [JoinHandle<()>; 2],
}

impl Sending {
    /// Sends what there still is, for so long at most.
    pub async fn finish(mut self, patience: Duration) {
        self.end.send_replace(true);
        let [spans, metrics] = &mut self.tasks;
        if tokio::time::timeout(patience, async { tokio::join!(spans, metrics) }).await.is_err() {
            tracing::warn!("the collector did not take the last spans and metrics in time");
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
