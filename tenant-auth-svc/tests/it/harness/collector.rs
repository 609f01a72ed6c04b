//! A test collector, which stores what it receives or never responds.

use std::sync::Arc;

use http::HeaderMap;
use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{KeyValue, any_value},
    metrics::v1::Metric,
    resource::v1::Resource,
    trace::v1::Span,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// The telemetry received so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReceivedTelemetry {
    /// Number of requests received, answered or not.
    pub(crate) requests: usize,
    pub(crate) spans: Vec<Span>,
    /// The metrics of the last export.
    pub(crate) metrics: Vec<Metric>,
    /// Resource attributes and request headers of each export, of spans and of metrics.
    pub(crate) senders: Vec<(Vec<KeyValue>, HeaderMap)>,
}

/// A running collector.
pub(crate) struct Collector {
    pub(crate) endpoint: String,
    received: watch::Receiver<ReceivedTelemetry>,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct CollectorService {
    received: Arc<watch::Sender<ReceivedTelemetry>>,
    hangs: bool,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        Self::start_with(false).await
    }

    /// Starts a collector that never responds.
    pub(crate) async fn start_hanging() -> Self {
        Self::start_with(true).await
    }

    async fn start_with(hangs: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (sender, got) = watch::channel(ReceivedTelemetry::default());
        let taking = CollectorService { received: Arc::new(sender), hangs };
        let server = Server::builder()
            .add_service(TraceServiceServer::new(taking.clone()))
            .add_service(MetricsServiceServer::new(taking))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let task = tokio::spawn(async move { server.await.unwrap() });
        Self { endpoint, received: got, task }
    }

    /// Returns what it has received so far.
    pub(crate) fn received(&self) -> ReceivedTelemetry {
        self.received.borrow().clone()
    }

    /// Waits until the received telemetry satisfies the condition.
    pub(crate) async fn wait_until(
        &self,
        wanted: impl FnMut(&ReceivedTelemetry) -> bool,
    ) -> ReceivedTelemetry {
        let mut got = self.received.clone();
        let reached = got.wait_for(wanted);
        let got = tokio::time::timeout(std::time::Duration::from_secs(30), reached).await;
        got.expect("the collector must receive this telemetry").unwrap().clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl CollectorService {
    async fn update(&self, take: impl FnOnce(&mut ReceivedTelemetry)) {
        self.received.send_modify(|got| {
            got.requests += 1;
            take(got);
        });
        if self.hangs {
            std::future::pending::<()>().await;
        }
    }
}

#[tonic::async_trait]
impl TraceService for CollectorService {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let headers = request.metadata().clone().into_headers();
        let all = request.into_inner().resource_spans;
        let from =
            all.iter().map(|of| (attributes(of.resource.as_ref()), headers.clone())).collect::<Vec<_>>();
        let all = all.into_iter();
        let spans = all.flat_map(|of| of.scope_spans).flat_map(|of| of.spans);
        self.update(|got| {
            got.spans.extend(spans);
            got.senders.extend(from);
        })
        .await;
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for CollectorService {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let headers = request.metadata().clone().into_headers();
        let all = request.into_inner().resource_metrics;
        let from =
            all.iter().map(|of| (attributes(of.resource.as_ref()), headers.clone())).collect::<Vec<_>>();
        let all = all.into_iter();
        let metrics = all.flat_map(|of| of.scope_metrics).flat_map(|of| of.metrics).collect();
        self.update(|got| {
            got.metrics = metrics;
            got.senders.extend(from);
        })
        .await;
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

fn attributes(resource: Option<&Resource>) -> Vec<KeyValue> {
    resource.map(|resource| resource.attributes.clone()).unwrap_or_default()
}

/// Returns the value of an attribute as text.
pub(crate) fn attribute_text(attributes: &[KeyValue], name: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == name)?;
    match found.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text.clone()),
        any_value::Value::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    }
}
