//! Spans, a batch at a time.

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

/// The most spans in one request.
const MAX_SPANS_PER_BATCH: usize = 512;
/// How long the first span waits for others.
const BATCH_DELAY: Duration = Duration::from_secs(1);

/// Sends spans.
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

    /// Until told to end; then what has gathered is sent as well.
    pub(super) async fn run(mut self, mut ending: watch::Receiver<bool>) {
        let mut goes_on = true;
        while goes_on {
            let mut batch = Vec::new();
            tokio::select! {
                more = collect_batch(&mut self.ended_spans, &mut batch) => goes_on = more,
                // An error means that nobody is left to say it.
                _ = ending.wait_for(|end| *end) => goes_on = false,
            }
            if !goes_on {
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

/// Waits for a span, and a little for others. Whether there may be more. What was received is in `batch`, also when
/// this is given up.
async fn collect_batch(ended: &mut mpsc::Receiver<SpanData>, batch: &mut Vec<SpanData>) -> bool {
    if ended.recv_many(batch, MAX_SPANS_PER_BATCH).await == 0 {
        return false;
    }
    let company = async {
        while batch.len() < MAX_SPANS_PER_BATCH {
            if ended.recv_many(batch, MAX_SPANS_PER_BATCH - batch.len()).await == 0 {
                return;
            }
        }
    };
    // It is enough, or it is time.
    let _ = tokio::time::timeout(BATCH_DELAY, company).await;
    true
}
