//! Encodes decisions of limits that need no wait directly into bytes: see `encoded`.

use bytes::Bytes;

use super::{
    consume::{as_i64, consume_verdict, proto_decided_by},
    encoded::{put_decision, put_duration, put_seconds_and_nanos},
    time::timestamp,
    wire::{encode_frame, put_message, put_number, put_short_message, put_text},
};
use crate::domain::limit::{
    LimitDecision,
    consume::{ConsumeDecision, Validation},
};

// Field numbers of ConsumeResponse.
const VERDICT: u8 = 1;
const KEY: u8 = 2;
const LIMITS: u8 = 4;
// Field numbers of LimitDecision.
const NAME: u8 = 1;
const METRIC: u8 = 2;
const LIMIT: u8 = 3;
const REMAINING: u8 = 4;
const WINDOW: u8 = 5;
const RESET_AFTER: u8 = 6;
const RETRY_AFTER: u8 = 7;
const DECIDED_BY: u8 = 8;
const EXCEEDED: u8 = 9;
const SHADOW: u8 = 10;
const WINDOW_START: u8 = 11;

/// Encodes a decision about a key as a complete frame; `None` for a session.
pub(crate) fn encode_consume_frame(decision: &ConsumeDecision) -> Option<Bytes> {
    let Validation::Key(validation) = &decision.validation else { return None };
    Some(encode_frame(|frame, _| {
        put_number(VERDICT, i32::from(consume_verdict(decision)).into(), frame);
        put_message(KEY, frame, |out| put_decision(validation, out));
        for limit in &decision.outcome.limits {
            put_message(LIMITS, frame, |out| put_limit(limit, out));
        }
    }))
}

fn put_limit(decision: &LimitDecision, out: &mut Vec<u8>) {
    let status = decision.status;
    put_text(NAME, decision.limit.name.as_str(), out);
    put_text(METRIC, decision.limit.metric.as_str(), out);
    put_number(LIMIT, as_i64(status.limit), out);
    put_number(REMAINING, as_i64(status.remaining), out);
    let times = [
        (WINDOW, status.window),
        (RESET_AFTER, status.reset_after),
        (RETRY_AFTER, status.retry_after.filter(|_| decision.is_exceeded)),
    ];
    for (field, time) in times {
        if let Some(time) = time {
            put_short_message(field, out, |out| put_duration(time, out));
        }
    }
    put_number(DECIDED_BY, i32::from(proto_decided_by(decision.decided_by)).into(), out);
    put_number(EXCEEDED, decision.is_exceeded.into(), out);
    put_number(SHADOW, decision.limit.shadow.into(), out);
    if let Some(start) = status.window_start.map(timestamp) {
        put_short_message(WINDOW_START, out, |out| put_seconds_and_nanos(start.seconds, start.nanos, out));
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use proptest::prelude::*;
    use prost::Message as _;
    use tenant_auth_proto::v1;

    use super::*;
    use crate::{
        domain::{
            clock::UnixMillis,
            limit::{
                CalendarWindow, Limit, LimitAmount, LimitDenial, LimitName, LimitOutcome, LimitRule,
                LimitSubject, OutagePolicy, Quota, QuotaWindow,
                counter::{DecidedBy, LimitStatus},
            },
            usage::UsageMetric,
            verdict::Decision,
        },
        grpc::convert::{FRAME_HEADER_LEN, consume::consume_response},
    };

    fn limit(name: &str, shadow: bool) -> Limit {
        Limit {
            subject: LimitSubject::Plan("pro".into()),
            name: LimitName::parse(name).unwrap(),
            metric: UsageMetric::parse("requests").unwrap(),
            rule: LimitRule::Quota(Quota {
                amount: LimitAmount::new(5).unwrap(),
                window: QuotaWindow::Calendar(CalendarWindow::Day),
            }),
            on_outage: OutagePolicy::Closed,
            shadow,
            version: 1,
            updated_at: UnixMillis(0),
        }
    }

    proptest! {
        #[test]
        fn encoded_decision_equals_that_of_prost(
            name in "[a-z][a-z0-9_.-]{0,63}",
            amounts in any::<(u64, u64)>(),
            times in any::<(Option<u32>, Option<u32>, Option<u32>)>(),
            flags in any::<(bool, bool)>(),
            start in proptest::option::of(0..253_402_300_799_999_i64),
            decided_by in prop::sample::select(DecidedBy::ALL.to_vec()),
        ) {
            let time = |millis: Option<u32>| millis.map(|millis| Duration::from_millis(millis.into()));
            let status = LimitStatus {
                limit: amounts.0,
                remaining: amounts.1,
                window: time(times.0),
                reset_after: time(times.1),
                retry_after: time(times.2),
                window_start: start.map(UnixMillis),
            };
            let one = LimitDecision { limit: Arc::new(limit(&name, flags.0)), status, decided_by, is_exceeded: flags.1 };
            let denial = flags.1.then_some(LimitDenial::Quota);
            let decision = ConsumeDecision {
                validation: Validation::Key(Decision::MALFORMED),
                outcome: LimitOutcome { denial, limits: vec![one.clone(), one], is_repeated: false },
            };
            let frame = encode_consume_frame(&decision).unwrap();
            let decoded = v1::ConsumeResponse::decode(&frame[FRAME_HEADER_LEN..]).unwrap();
            prop_assert_eq!(decoded, consume_response(decision));
        }
    }
}
