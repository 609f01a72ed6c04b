//! Exports spans in batches.

use std::{sync::Arc, time::Duration};

use opentelemetry_proto::{
    tonic::collector::trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
    transform::{
        common::tonic::ResourceAttributesWithSchema, trace::tonic::group_spans_by_resource_and_scope,
    },
};
use opentelemetry_sdk::{Resource, trace::SpanData};
use tokio::sync::{mpsc, watch};

use super::{CollectorChannel, OtlpCounts};

/// The maximum number of spans in one request.
const MAX_SPANS_PER_BATCH: usize = 512;
/// The time that the first span of a batch waits for further ones.
const BATCH_DELAY: Duration = Duration::from_secs(1);

/// Exports spans.
pub(super) struct SpanSender {
    client: TraceServiceClient<CollectorChannel>,
    resource: ResourceAttributesWithSchema,
    ended_spans: mpsc::Receiver<SpanData>,
    counts: Arc<OtlpCounts>,
}

impl SpanSender {
    pub(super) fn new(
        collector: CollectorChannel,
        resource: &Resource,
        ended: mpsc::Receiver<SpanData>,
        counts: Arc<OtlpCounts>,
    ) -> Self {
        Self {
            client: TraceServiceClient::new(collector),
            resource: resource.into(),
            ended_spans: ended,
            counts,
        }
    }

    /// Runs until the stop signal, and then exports the queued spans.
    pub(super) async fn run(mut self, mut ending: watch::Receiver<bool>) {
        let mut is_running = true;
        while is_running {
            let mut batch = Vec::new();
            tokio::select! {
                more = collect_batch(&mut self.ended_spans, &mut batch) => is_running = more,
                // An error means that the sender is dropped.
                _ = ending.wait_for(|end| *end) => is_running = false,
            }
            if !is_running {
                self.ended_spans.close();
                while let Ok(span) = self.ended_spans.try_recv() {
                    batch.push(span);
                }
            }
            while !batch.is_empty() {
                let rest = batch.split_off(batch.len().min(MAX_SPANS_PER_BATCH));
                self.export(std::mem::replace(&mut batch, rest)).await;
            }
        }
    }

    async fn export(&mut self, batch: Vec<SpanData>) {
        let sent = batch.len() as u64;
        let request = ExportTraceServiceRequest {
            resource_spans: group_spans_by_resource_and_scope(batch, &self.resource),
        };
        let outcome = self.client.export(request).await;
        let refused = match &outcome {
            Ok(answer) => {
                answer.get_ref().partial_success.as_ref().map_or(0, |partial| partial.rejected_spans)
            }
            Err(_) => i64::MAX,
        };
        let refused = u64::try_from(refused).unwrap_or_default().min(sent);
        self.counts.spans.failed.add(refused);
        self.counts.spans.exported.add(sent - refused);
        self.counts.traces.record("traces", outcome.as_ref().map(drop));
    }
}

/// Waits for a span, and for a short time for further ones. Returns whether more spans may come. If the
/// future is dropped, the received spans are in `batch`.
async fn collect_batch(ended: &mut mpsc::Receiver<SpanData>, batch: &mut Vec<SpanData>) -> bool {
    if ended.recv_many(batch, MAX_SPANS_PER_BATCH).await == 0 {
        return false;
    }
    let further_spans = async {
        while batch.len() < MAX_SPANS_PER_BATCH {
            if ended.recv_many(batch, MAX_SPANS_PER_BATCH - batch.len()).await == 0 {
                return;
            }
        }
    };
    // The batch is full, or the delay is over.
    let _ = tokio::time::timeout(BATCH_DELAY, further_spans).await;
    true
}
