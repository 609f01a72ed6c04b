//! Commands about usage.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use futures::TryStreamExt as _;
use serde_json::{Value, json};
use tenant_auth_client::{
    Client, Error, NotRecorded, RecorderSettings, UsageRecorder,
    proto::{QueryUsageRequest, UsageBucket, UsageEvent, UsageSum},
};

use crate::answers::{code, code_name, text};

/// Maximum time to send the remaining events of a recorder.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) async fn record(client: &Client, command: &Value) -> Result<Value, Error> {
    let event = |event: &Value| UsageEvent {
        tenant_id: text(event, "tenant_id").to_owned(),
        metric: text(event, "metric").to_owned(),
        quantity: event["quantity"].as_i64().unwrap_or_default(),
        occurred_at: event["occurred_at_ms"].as_u64().map(|millis| moment(millis).into()),
    };
    let events = command["events"].as_array().into_iter().flatten().map(event).collect();
    let recorded = client.record_usage(text(command, "request_id"), events).await?;
    let rejected = |(index, error): &(usize, Error)| json!({"index": index, "error": code_name(code(error))});
    Ok(json!({
        "accepted": recorded.accepted,
        "rejected": recorded.rejected.iter().map(rejected).collect::<Vec<_>>(),
        "already_recorded": recorded.already_recorded,
    }))
}

/// Records through a recorder, which is closed at the end. Events that it did not accept, or could not send,
/// count as rejected.
pub(crate) async fn record_many(client: &Client, command: &Value) -> Result<Value, Error> {
    let rejected = Arc::new(AtomicU64::new(0));
    let refused_count = Arc::clone(&rejected);
    let settings = RecorderSettings::new().on_refused(move |usage| {
        refused_count.fetch_add(usage.events.len() as u64, Ordering::Relaxed);
    });
    let recorder = UsageRecorder::start(client.clone(), settings)?;
    let count = command["count"].as_u64().unwrap_or_default();
    for _ in 0..count {
        let is_accepted = loop {
            match recorder.record(text(command, "tenant_id"), text(command, "metric"), 1) {
                // Send the queued events first.
                Err(NotRecorded::Full) if recorder.flush().await.is_ok() => {}
                outcome => break outcome.is_ok(),
            }
        };
        rejected.fetch_add(u64::from(!is_accepted), Ordering::Relaxed);
    }
    let unsent: usize = recorder.close(CLOSE_TIMEOUT).await.iter().map(|unsent| unsent.events.len()).sum();
    let rejected = rejected.load(Ordering::Relaxed) + unsent as u64;
    Ok(json!({"accepted": count - rejected, "rejected": rejected}))
}

pub(crate) async fn query(client: &Client, command: &Value) -> Result<Value, Error> {
    let bucket = match text(command, "bucket") {
        "HOUR" => UsageBucket::Hour,
        "MONTH" => UsageBucket::Month,
        _ => UsageBucket::Day,
    };
    let request = QueryUsageRequest {
        tenant_id: text(command, "tenant_id").to_owned(),
        metric: text(command, "metric").to_owned(),
        start_time: command["start_ms"].as_u64().map(|millis| moment(millis).into()),
        end_time: command["end_ms"].as_u64().map(|millis| moment(millis).into()),
        bucket: bucket.into(),
        ..Default::default()
    };
    let sum = |sum: UsageSum| {
        let start = sum.bucket_start.unwrap_or_default();
        let millis = start.seconds * 1_000 + i64::from(start.nanos) / 1_000_000;
        json!({"metric": sum.metric, "bucket_start_ms": millis, "quantity": sum.quantity})
    };
    let sums: Vec<_> = client.query_usage(request).map_ok(sum).try_collect().await?;
    Ok(json!({"sums": sums}))
}

fn moment(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}
