//! Messages of `LimitService`.

use std::time::Duration;

use tenant_auth_proto::v1::{self, limit_credential};

use super::{
    entries::ParsedEntries,
    fields::{FieldValidator, ParseResult},
    session::{parse_session_query, session_decision_message},
    time::{duration, parse_duration, timestamp},
    validation::{decision_message, parse_key_query, proto_verdict},
};
use crate::{
    domain::{
        limit::{
            Cost, Costs, EndedReservation, LimitDecision, LimitDenial, ReservationEnd, ReservationState,
            SettledLimit,
            consume::{CallerId, ConsumeDecision, Consumption, Credential, Reservation, Validation},
            counter::DecidedBy,
        },
        usage::UsageMetric,
    },
    grpc::error::{ApiError, Violation},
};

/// How long a reservation is held if the caller does not say.
const DEFAULT_RESERVATION: Duration = Duration::from_secs(10 * 60);
const RESERVATION_BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(24 * 60 * 60));

/// Parses a request to take something; `caller` is the caller's name.
///
/// # Errors
/// Names each invalid field.
pub(in crate::grpc) fn parse_consume(
    caller: Option<String>,
    request: v1::ConsumeRequest,
) -> ParseResult<Consumption> {
    let mut fields = FieldValidator::new();
    let credential = parse_credential(&mut fields, request.credential);
    let costs = parse_costs(&mut fields, &request.costs);
    let id = match request.consume_id.as_str() {
        "" => Some(None),
        id => parse_id(&mut fields, "consume_id", id).map(Some),
    };
    match (credential, costs, id) {
        (Some(credential), Some(costs), Some(id)) if fields.is_valid() => {
            Ok(Consumption { credential, costs, id: id.map(|id| CallerId { caller, id }) })
        }
        _ => Err(fields.into_error()),
    }
}

/// Parses a request, for the test of the parser in place.
#[cfg(test)]
pub(crate) fn parse_consume_for_tests(request: v1::ConsumeRequest) -> Option<Consumption> {
    parse_consume(None, request).ok()
}

/// Parses the entries of a batch, in order. An invalid entry does not affect the others.
///
/// # Errors
/// If there are no entries, or more than `max`.
pub(in crate::grpc) fn parse_consume_batch(
    caller: Option<&str>,
    request: v1::BatchConsumeRequest,
    max: usize,
) -> ParseResult<ParsedEntries<Consumption>> {
    let count = request.requests.len();
    if !(1..=max).contains(&count) {
        let mut fields = FieldValidator::new();
        fields.add_violation("requests", format!("must hold 1 to {max} entries, not {count}"));
        return Err(fields.into_error());
    }
    Ok(request.requests.into_iter().map(|entry| parse_consume(caller.map(str::to_owned), entry)).collect())
}

/// Parses a request to reserve something.
///
/// # Errors
/// Names each invalid field.
pub(in crate::grpc) fn parse_reserve(
    caller: Option<String>,
    request: v1::ReserveRequest,
) -> ParseResult<Reservation> {
    let mut fields = FieldValidator::new();
    let credential = parse_credential(&mut fields, request.credential);
    let costs = parse_costs(&mut fields, &request.costs);
    let id = parse_id(&mut fields, "reservation_id", &request.reservation_id);
    let expires_in = match request.expires_in {
        None => Some(DEFAULT_RESERVATION),
        Some(time) => fields.check("expires_in", parse_duration(time)),
    };
    let (shortest, longest) = RESERVATION_BOUNDS;
    if expires_in.is_some_and(|time| !(shortest..=longest).contains(&time)) {
        fields.add_violation("expires_in", "must be 1 second to 24 hours");
    }
    let charge_on_expiry = match v1::ReservationExpiry::try_from(request.on_expiry) {
        Ok(v1::ReservationExpiry::Unspecified | v1::ReservationExpiry::Release) => false,
        Ok(v1::ReservationExpiry::Charge) => true,
        Err(_) => {
            fields.add_violation("on_expiry", format!("unknown value {}", request.on_expiry));
            false
        }
    };
    match (credential, costs, id, expires_in) {
        (Some(credential), Some(costs), Some(id), Some(expires_in)) if fields.is_valid() => {
            Ok(Reservation { credential, costs, id: CallerId { caller, id }, expires_in, charge_on_expiry })
        }
        _ => Err(fields.into_error()),
    }
}

/// Parses a request to settle a reservation.
///
/// # Errors
/// Names each invalid field.
pub(in crate::grpc) fn parse_settle(
    caller: Option<String>,
    request: &v1::SettleRequest,
) -> ParseResult<(CallerId, ReservationEnd)> {
    let mut fields = FieldValidator::new();
    let id = parse_id(&mut fields, "reservation_id", &request.reservation_id);
    let mut actual: Vec<(UsageMetric, u64)> = Vec::new();
    for (index, cost) in request.actual.iter().enumerate() {
        let metric = fields.check(&format!("actual[{index}].metric"), UsageMetric::parse(&cost.metric));
        let amount = parse_amount(&mut fields, &format!("actual[{index}].amount"), cost.amount, 0);
        if let (Some(metric), Some(amount)) = (metric, amount) {
            if actual.iter().any(|(known, _)| *known == metric) {
                fields.add_violation(&format!("actual[{index}].metric"), "must be named once");
            }
            actual.push((metric, amount));
        }
    }
    match id {
        Some(id) if fields.is_valid() => Ok((CallerId { caller, id }, ReservationEnd::Settle(actual))),
        _ => Err(fields.into_error()),
    }
}

/// Parses a request to cancel a reservation.
///
/// # Errors
/// If the id is invalid.
pub(in crate::grpc) fn parse_cancel(
    caller: Option<String>,
    request: &v1::CancelRequest,
) -> ParseResult<CallerId> {
    let mut fields = FieldValidator::new();
    match parse_id(&mut fields, "reservation_id", &request.reservation_id) {
        Some(id) => Ok(CallerId { caller, id }),
        None => Err(fields.into_error()),
    }
}

fn parse_credential(
    fields: &mut FieldValidator,
    credential: Option<v1::LimitCredential>,
) -> Option<Credential> {
    let parsed = match credential.and_then(|credential| credential.credential) {
        None => {
            fields.add_violation("credential", "must hold a key or a session");
            return None;
        }
        Some(limit_credential::Credential::Key(key)) => {
            parse_key_query(key).map(Credential::Key).map_err(|error| ("credential.key", error))
        }
        Some(limit_credential::Credential::Session(session)) => parse_session_query(session)
            .map(Credential::Session)
            .map_err(|error| ("credential.session", error)),
    };
    match parsed {
        Ok(credential) => Some(credential),
        Err((path, ApiError::Invalid(violations))) => {
            for Violation { field, description } in violations {
                fields.add_violation(&format!("{path}.{field}"), description);
            }
            None
        }
        Err((path, error)) => {
            fields.add_violation(path, error);
            None
        }
    }
}

fn parse_costs(fields: &mut FieldValidator, costs: &[v1::Cost]) -> Option<Costs> {
    let mut parsed = Costs::new();
    if !(1..=parsed.capacity()).contains(&costs.len()) {
        let count = costs.len();
        fields.add_violation("costs", format!("must hold 1 to {} entries, not {count}", parsed.capacity()));
        return None;
    }
    for (index, cost) in costs.iter().enumerate() {
        let metric = fields.check(&format!("costs[{index}].metric"), UsageMetric::parse(&cost.metric));
        let amount = parse_amount(fields, &format!("costs[{index}].amount"), cost.amount, 1);
        if let (Some(metric), Some(amount)) = (metric, amount) {
            if parsed.iter().any(|known| known.metric == metric) {
                fields.add_violation(&format!("costs[{index}].metric"), "must be named once");
            }
            parsed.push(Cost { metric, amount });
        }
    }
    Some(parsed)
}

fn parse_amount(fields: &mut FieldValidator, field: &str, amount: i64, least: u64) -> Option<u64> {
    let parsed = u64::try_from(amount).ok().filter(|amount| (least..=Cost::MAX.get()).contains(amount));
    if parsed.is_none() {
        fields.add_violation(field, format!("must be {least} to 1,000,000,000, not {amount}"));
    }
    parsed
}

fn parse_id(fields: &mut FieldValidator, field: &str, id: &str) -> Option<String> {
    let is_valid = (1..=128).contains(&id.len()) && id.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if !is_valid {
        fields.add_violation(field, "must have 1 to 128 printable ASCII characters");
    }
    is_valid.then(|| id.to_owned())
}

/// Converts a decision.
pub(in crate::grpc) fn consume_response(decision: ConsumeDecision) -> v1::ConsumeResponse {
    use v1::consume_response::Validation as Message;

    let verdict = consume_verdict(&decision);
    let validation = match decision.validation {
        Validation::Key(decision) => Message::Key(decision_message(decision)),
        Validation::Session(decision) => Message::Session(session_decision_message(decision)),
    };
    v1::ConsumeResponse {
        verdict: verdict.into(),
        validation: Some(validation),
        limits: decision.outcome.limits.iter().map(limit_decision_message).collect(),
        already_consumed: decision.outcome.is_repeated,
    }
}

/// Converts a decision about a reservation that ends by itself after `expires_in`.
pub(in crate::grpc) fn reserve_response(
    decision: ConsumeDecision,
    expires_in: Duration,
) -> v1::ReserveResponse {
    use v1::{consume_response::Validation as From, reserve_response::Validation as To};

    let v1::ConsumeResponse { verdict, validation, limits, already_consumed } = consume_response(decision);
    v1::ReserveResponse {
        verdict,
        validation: validation.map(|validation| match validation {
            From::Key(key) => To::Key(key),
            From::Session(session) => To::Session(session),
        }),
        limits,
        expires_in: (verdict == i32::from(v1::Verdict::Valid)).then(|| duration(expires_in)),
        already_reserved: already_consumed,
    }
}

pub(super) fn consume_verdict(decision: &ConsumeDecision) -> v1::Verdict {
    match (decision.outcome.denial, &decision.validation) {
        (Some(LimitDenial::Quota), _) => v1::Verdict::QuotaExceeded,
        (Some(LimitDenial::Rate), _) => v1::Verdict::RateLimited,
        (None, Validation::Key(decision)) => proto_verdict(decision.verdict),
        (None, Validation::Session(decision)) => super::session::proto_session_verdict(decision.verdict),
    }
}

pub(super) fn limit_decision_message(decision: &LimitDecision) -> v1::LimitDecision {
    let status = decision.status;
    v1::LimitDecision {
        name: decision.limit.name.as_str().to_owned(),
        metric: decision.limit.metric.as_str().to_owned(),
        limit: as_i64(status.limit),
        remaining: as_i64(status.remaining),
        window: status.window.map(duration),
        reset_after: status.reset_after.map(duration),
        retry_after: status.retry_after.filter(|_| decision.is_exceeded).map(duration),
        decided_by: proto_decided_by(decision.decided_by).into(),
        exceeded: decision.is_exceeded,
        shadow: decision.limit.shadow,
        window_start: status.window_start.map(timestamp),
    }
}

pub(super) fn proto_decided_by(decided_by: DecidedBy) -> v1::DecidedBy {
    match decided_by {
        DecidedBy::Lease => v1::DecidedBy::Lease,
        DecidedBy::Database => v1::DecidedBy::Database,
        DecidedBy::LocalShare => v1::DecidedBy::LocalShare,
        DecidedBy::OutagePolicy => v1::DecidedBy::OutagePolicy,
    }
}

pub(super) fn as_i64(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

/// Converts a reservation that was to be settled.
pub(in crate::grpc) fn settle_response(ended: EndedReservation) -> v1::SettleResponse {
    v1::SettleResponse {
        state: proto_state(ended.state).into(),
        limits: ended.limits.into_iter().map(settled_limit_message).collect(),
        already_settled: ended.ended_before,
    }
}

fn settled_limit_message(limit: SettledLimit) -> v1::SettledLimit {
    v1::SettledLimit {
        name: limit.name.as_str().to_owned(),
        metric: limit.metric.as_str().to_owned(),
        reserved: as_i64(limit.reserved),
        charged: as_i64(limit.charged),
        exceeded_by: as_i64(limit.exceeded_by),
    }
}

pub(in crate::grpc) fn proto_state(state: ReservationState) -> v1::ReservationState {
    match state {
        ReservationState::Held => v1::ReservationState::Held,
        ReservationState::Settled => v1::ReservationState::Settled,
        ReservationState::Cancelled => v1::ReservationState::Cancelled,
        ReservationState::Expired => v1::ReservationState::Expired,
    }
}
