//! Commands about usage.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tenant_auth_client::{
    Client, Code, Error,
    proto::{QueryUsageRequest, RecordUsageRequest, RejectedUsageEvent, UsageBucket, UsageEvent},
};
use tenant_auth_proto::v1::usage_service_client::UsageServiceClient;

use crate::answers::{code_name, text};

pub(crate) async fn record(client: &Client, command: &Value) -> Result<Value, Error> {
    let event = |event: &Value| UsageEvent {
        tenant_id: text(event, "tenant_id").to_owned(),
        metric: text(event, "metric").to_owned(),
        quantity: event["quantity"].as_i64().unwrap_or_default(),
        occurred_at: event["occurred_at_ms"].as_u64().map(|millis| moment(millis).into()),
    };
    let request = RecordUsageRequest {
        request_id: text(command, "request_id").to_owned(),
        events: command["events"].as_array().into_iter().flatten().map(event).collect(),
    };
    let reply = UsageServiceClient::new(client.transport()).record_usage(request).await?.into_inner();
    let rejected = |rejected: RejectedUsageEvent| {
        let code = rejected.error.map_or(Code::Unknown, |error| Code::from_i32(error.code));
        json!({"index": rejected.index, "error": code_name(code)})
    };
    Ok(json!({
        "accepted": reply.accepted,
        "rejected": reply.rejected.into_iter().map(rejected).collect::<Vec<_>>(),
        "already_recorded": reply.already_recorded,
    }))
}

pub(crate) async fn query(client: &Client, command: &Value) -> Result<Value, Error> {
    let bucket = match text(command, "bucket") {
        "HOUR" => UsageBucket::Hour,
        "MONTH" => UsageBucket::Month,
        _ => UsageBucket::Day,
    };
    let mut request = QueryUsageRequest {
        tenant_id: text(command, "tenant_id").to_owned(),
        metric: text(command, "metric").to_owned(),
        start_time: command["start_ms"].as_u64().map(|millis| moment(millis).into()),
        end_time: command["end_ms"].as_u64().map(|millis| moment(millis).into()),
        bucket: bucket.into(),
        ..Default::default()
    };
    let mut sums = Vec::new();
    loop {
        let mut rpc = UsageServiceClient::new(client.transport());
        let page = rpc.query_usage(request.clone()).await?.into_inner();
        for sum in page.sums {
            let start = sum.bucket_start.unwrap_or_default();
            let millis = start.seconds * 1_000 + i64::from(start.nanos) / 1_000_000;
            sums.push(json!({"metric": sum.metric, "bucket_start_ms": millis, "quantity": sum.quantity}));
        }
        if page.next_page_token.is_empty() {
            return Ok(json!({"sums": sums}));
        }
        request.page_token = page.next_page_token;
    }
}

fn moment(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}
