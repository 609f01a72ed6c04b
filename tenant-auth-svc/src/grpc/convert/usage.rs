//! Messages of usage.

use std::sync::Arc;

use tenant_auth_proto::v1;

use super::{
    fields::{FieldValidator, ParseResult, page_token},
    time::{parse_timestamp, timestamp},
};
use crate::{
    domain::{
        clock::UnixMillis,
        id::TenantId,
        page::Page,
        usage::{
            EventRefusal, MAX_EVENTS_PER_REQUEST, PayloadHasher, Quantity, RecordedUsage, SUMS_PAGE_SIZES,
            TimeBucket, UsageCursor, UsageError, UsageEvent, UsageMetric, UsageQuery, UsageRequest,
            UsageRequestId, UsageSum,
        },
    },
    grpc::status,
};

pub(in crate::grpc) fn parse_record_usage(
    caller: Option<Arc<str>>,
    request: &v1::RecordUsageRequest,
) -> ParseResult<UsageRequest> {
    let mut fields = FieldValidator::new();
    let id = fields.check("request_id", UsageRequestId::parse(&request.request_id));
    let count = request.events.len();
    if !(1..=MAX_EVENTS_PER_REQUEST).contains(&count) {
        fields
            .add_violation("events", format!("must hold 1 to {MAX_EVENTS_PER_REQUEST} entries, not {count}"));
    }
    match id {
        Some(id) if fields.is_valid() => Ok(UsageRequest {
            caller,
            id,
            payload: {
                let mut hasher = PayloadHasher::default();
                for event in &request.events {
                    let occurred_at = event.occurred_at.map(|at| (at.seconds, at.nanos));
                    hasher.add_event(&event.tenant_id, &event.metric, event.quantity, occurred_at);
                }
                hasher.finish()
            },
            events: request.events.iter().map(parse_usage_event).collect(),
        }),
        _ => Err(fields.into_error()),
    }
}

/// Parses an event. An invalid event does not affect the others of its request.
fn parse_usage_event(event: &v1::UsageEvent) -> Result<UsageEvent, EventRefusal> {
    Ok(UsageEvent {
        tenant_id: TenantId::parse(&event.tenant_id).map_err(|_| EventRefusal::InvalidTenantId)?,
        metric: UsageMetric::parse(&event.metric).map_err(|_| EventRefusal::InvalidMetric)?,
        quantity: Quantity::new(event.quantity)?,
        occurred_at: event
            .occurred_at
            .map(parse_timestamp)
            .transpose()
            .map_err(|_| EventRefusal::InvalidTime)?,
    })
}

pub(in crate::grpc) fn record_usage_response(recorded: RecordedUsage) -> v1::RecordUsageResponse {
    let number = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let rejected = recorded.rejected.into_iter().map(|(index, refusal)| v1::RejectedUsageEvent {
        index: number(index),
        error: Some(status::status_message(UsageError::Refused(refusal).into())),
    });
    v1::RecordUsageResponse {
        accepted: number(recorded.accepted),
        rejected: rejected.collect(),
        already_recorded: recorded.already_recorded,
    }
}

pub(in crate::grpc) fn parse_query_usage(request: &v1::QueryUsageRequest) -> ParseResult<UsageQuery> {
    let mut fields = FieldValidator::new();
    let tenant_id = fields.check("tenant_id", TenantId::parse(&request.tenant_id));
    let metric = match request.metric.as_str() {
        "" => Some(None),
        metric => fields.check("metric", UsageMetric::parse(metric)).map(Some),
    };
    let start = parse_required_timestamp(&mut fields, "start_time", request.start_time);
    let end = parse_required_timestamp(&mut fields, "end_time", request.end_time);
    let hours =
        start.zip(end).and_then(|(start, end)| fields.check("end_time", UsageQuery::hours(start, end)));
    let bucket = parse_usage_bucket(&mut fields, request.bucket);
    let page = fields.parse_page_with_sizes(
        SUMS_PAGE_SIZES,
        request.page_size,
        &request.page_token,
        UsageCursor::parse,
    );
    match (tenant_id, metric, hours, bucket, page) {
        (Some(tenant_id), Some(metric), Some((start, end)), Some(bucket), Some(page)) => {
            Ok(UsageQuery { tenant_id, metric, start, end, bucket, page })
        }
        _ => Err(fields.into_error()),
    }
}

fn parse_required_timestamp(
    fields: &mut FieldValidator,
    field: &str,
    timestamp: Option<prost_types::Timestamp>,
) -> Option<UnixMillis> {
    match timestamp {
        Some(timestamp) => fields.check(field, parse_timestamp(timestamp)),
        None => {
            fields.add_violation(field, "must be set");
            None
        }
    }
}

fn parse_usage_bucket(fields: &mut FieldValidator, bucket: i32) -> Option<TimeBucket> {
    match v1::UsageBucket::try_from(bucket) {
        Ok(v1::UsageBucket::Hour) => Some(TimeBucket::Hour),
        Ok(v1::UsageBucket::Unspecified | v1::UsageBucket::Day) => Some(TimeBucket::Day),
        Ok(v1::UsageBucket::Month) => Some(TimeBucket::Month),
        Err(_) => {
            fields.add_violation("bucket", format!("unknown value {bucket}"));
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
