//! Usage.

use std::sync::Arc;

use tenant_auth_proto::v1;

use super::{
    fields::{Fields, page_token},
    time::{moment, timestamp},
};
use crate::{
    domain::{
        clock::UnixMillis,
        id::TenantId,
        page::Page,
        usage::{
            Bucket, MAX_EVENTS, MAX_SUMS, Metric, PayloadHasher, Quantity, Recorded, Refusal, RequestId,
            UsageCursor, UsageError, UsageEvent, UsageQuery, UsageRequest, UsageSum,
        },
    },
    grpc::{error::ApiError, status},
};

type Read<T> = Result<T, ApiError>;

pub(in crate::grpc) fn record_usage_request(
    caller: Option<Arc<str>>,
    request: &v1::RecordUsageRequest,
) -> Read<UsageRequest> {
    let mut fields = Fields::new();
    let id = fields.take("request_id", RequestId::parse(&request.request_id));
    let count = request.events.len();
    if !(1..=MAX_EVENTS).contains(&count) {
        fields.violation("events", format!("must hold 1 to {MAX_EVENTS} entries, not {count}"));
    }
    match id {
        Some(id) if fields.is_valid() => Ok(UsageRequest {
            caller,
            id,
            payload: {
                let mut hasher = PayloadHasher::default();
                for event in &request.events {
                    let occurred_at = event.occurred_at.map(|at| (at.seconds, at.nanos));
                    hasher.event(&event.tenant_id, &event.metric, event.quantity, occurred_at);
                }
                hasher.finish()
            },
            events: request.events.iter().map(event).collect(),
        }),
        _ => Err(fields.error()),
    }
}

/// An event that cannot be counted is no reason not to count the others.
fn event(event: &v1::UsageEvent) -> Result<UsageEvent, Refusal> {
    Ok(UsageEvent {
        tenant_id: TenantId::parse(&event.tenant_id).map_err(|_| Refusal::TenantId)?,
        metric: Metric::parse(&event.metric).map_err(|_| Refusal::Metric)?,
        quantity: Quantity::new(event.quantity)?,
        occurred_at: event.occurred_at.map(moment).transpose().map_err(|_| Refusal::Time)?,
    })
}

pub(in crate::grpc) fn record_usage_response(recorded: Recorded) -> v1::RecordUsageResponse {
    let number = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let rejected = recorded.rejected.into_iter().map(|(index, refusal)| v1::RejectedUsageEvent {
        index: number(index),
        error: Some(status::as_message(UsageError::Refused(refusal).into())),
    });
    v1::RecordUsageResponse {
        accepted: number(recorded.accepted),
        rejected: rejected.collect(),
        already_recorded: recorded.already_recorded,
    }
}

pub(in crate::grpc) fn query_usage_request(request: &v1::QueryUsageRequest) -> Read<UsageQuery> {
    let mut fields = Fields::new();
    let tenant_id = fields.take("tenant_id", TenantId::parse(&request.tenant_id));
    let metric = match request.metric.as_str() {
        "" => Some(None),
        metric => fields.take("metric", Metric::parse(metric)).map(Some),
    };
    let start = required_moment(&mut fields, "start_time", request.start_time);
    let end = required_moment(&mut fields, "end_time", request.end_time);
    let hours =
        start.zip(end).and_then(|(start, end)| fields.take("end_time", UsageQuery::hours(start, end)));
    let bucket = bucket(&mut fields, request.bucket);
    let page = fields.page_of(MAX_SUMS, request.page_size, &request.page_token, UsageCursor::parse);
    match (tenant_id, metric, hours, bucket, page) {
        (Some(tenant_id), Some(metric), Some((start, end)), Some(bucket), Some(page)) => {
            Ok(UsageQuery { tenant_id, metric, start, end, bucket, page })
        }
        _ => Err(fields.error()),
    }
}

fn required_moment(
    fields: &mut Fields,
    field: &str,
    timestamp: Option<prost_types::Timestamp>,
) -> Option<UnixMillis> {
    match timestamp {
        Some(timestamp) => fields.take(field, moment(timestamp)),
        None => {
            fields.violation(field, "must be set");
            None
        }
    }
}

fn bucket(fields: &mut Fields, bucket: i32) -> Option<Bucket> {
    match v1::UsageBucket::try_from(bucket) {
        Ok(v1::UsageBucket::Hour) => Some(Bucket::Hour),
        Ok(v1::UsageBucket::Unspecified | v1::UsageBucket::Day) => Some(Bucket::Day),
        Ok(v1::UsageBucket::Month) => Some(Bucket::Month),
        Err(_) => {
            fields.violation("bucket", "must be one that this version knows");
            None
        }
    }
}

pub(in crate::grpc) fn query_usage_response(page: Page<UsageSum, UsageCursor>) -> v1::QueryUsageResponse {
    let sum = |sum: UsageSum| v1::UsageSum {
        metric: sum.metric.as_str().to_owned(),
        bucket_start: Some(timestamp(sum.start)),
        quantity: sum.quantity,
    };
    v1::QueryUsageResponse {
        next_page_token: page_token(page.next),
        sums: page.items.into_iter().map(sum).collect(),
    }
}
