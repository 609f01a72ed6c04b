//! Commands about limits.

use std::time::Duration;

use serde_json::{Value, json};
use tenant_auth_client::{
    Client, ClientAddress, ConsumeRequest, Consumption, Cost, DecidedBy, Error, KeyQuery, LimitCredential,
    LimitDecision, LimitOwner, Limits, OnExpiry, PresentedKey, ReservationState, ReserveRequest,
    SessionQuery, Validation, proto::LimitState,
};

use crate::answers::{self, text, texts};

pub(crate) async fn consume(client: &Client, command: &Value) -> Result<Value, Error> {
    Ok(consumption(&client.consume(&consume_request(command)?).await?))
}

pub(crate) async fn consume_many(client: &Client, command: &Value) -> Result<Value, Error> {
    let requests = command["requests"].as_array().into_iter().flatten().map(consume_request);
    let requests: Vec<_> = requests.collect::<Result<_, _>>()?;
    let item = |outcome: Result<Consumption, Error>| match outcome {
        Ok(outcome) => consumption(&outcome),
        Err(error) => answers::error(&error),
    };
    let outcomes = client.consume_batch(&requests).await?;
    Ok(json!({"items": outcomes.into_iter().map(item).collect::<Vec<_>>()}))
}

pub(crate) async fn reserve(client: &Client, command: &Value) -> Result<Value, Error> {
    let mut request = ReserveRequest::new(credential(command)?).costs(costs(command, "costs"));
    if let Some(id) = command["reservation_id"].as_str() {
        request = request.id(id);
    }
    if let Some(millis) = command["expires_in_ms"].as_u64() {
        request = request.expires_in(Duration::from_millis(millis));
    }
    if text(command, "on_expiry") == "CHARGE" {
        request = request.on_expiry(OnExpiry::Charge);
    }
    let outcome = client.reserve(&request).await?;
    let mut answer = decision(&outcome.validation, &outcome.limits);
    answer["verdict"] = json!(outcome.verdict.to_string());
    answer["allowed"] = json!(outcome.is_allowed());
    answer["expires_in_ms"] = json!(outcome.expires_in.map(millis));
    answer["already_reserved"] = json!(outcome.already_reserved);
    // It is settled or cancelled by another command.
    answer["reservation_id"] = json!(outcome.reservation.map(|reservation| reservation.into_id()));
    Ok(answer)
}

pub(crate) async fn settle(client: &Client, command: &Value) -> Result<Value, Error> {
    let actual = costs(command, "actual");
    let settlement = client.settle_reservation(text(command, "reservation_id"), &actual).await?;
    let limits = settlement.limits.iter().map(|limit| {
        json!({
            "name": limit.name,
            "metric": limit.metric,
            "reserved": limit.reserved,
            "charged": limit.charged,
            "exceeded_by": limit.exceeded_by,
        })
    });
    Ok(json!({
        "state": state_name(settlement.state),
        "already_settled": settlement.already_settled,
        "limits": limits.collect::<Vec<_>>(),
    }))
}

pub(crate) async fn cancel(client: &Client, command: &Value) -> Result<Value, Error> {
    let state = client.cancel_reservation(text(command, "reservation_id")).await?;
    Ok(json!({"state": state_name(state)}))
}

pub(crate) async fn limit_state(client: &Client, command: &Value) -> Result<Value, Error> {
    let owner = match command["key_id"].as_str() {
        Some(key_id) => LimitOwner::Key(key_id),
        None => LimitOwner::Tenant(text(command, "tenant_id")),
    };
    let state = |state: LimitState| {
        let limit = state.limit.unwrap_or_default();
        let reset_after = state.reset_after.and_then(|time| Duration::try_from(time).ok());
        json!({
            "name": limit.name,
            "metric": limit.metric,
            "used": state.used,
            "leased": state.leased,
            "reserved": state.reserved,
            "unaccounted": state.unaccounted,
            "remaining": state.remaining,
            "reset_after_ms": reset_after.map(millis),
        })
    };
    let limits: Vec<_> = client.limit_state(owner).await?.into_iter().map(state).collect();
    Ok(json!({"limits": limits}))
}

fn consume_request(command: &Value) -> Result<ConsumeRequest, Error> {
    let request = ConsumeRequest::new(credential(command)?).costs(costs(command, "costs"));
    Ok(match command["consume_id"].as_str() {
        Some(id) => request.id(id),
        None => request,
    })
}

fn credential(command: &Value) -> Result<LimitCredential, Error> {
    let required_scopes = texts(command, "scopes").into_iter().map(str::to_owned).collect();
    let client_address = command["client_address"].as_str().map(ClientAddress::parse).transpose()?;
    Ok(match command["session_id"].as_str() {
        Some(session_id) => {
            let key = command["key"].as_str().map(PresentedKey::new);
            SessionQuery { key, required_scopes, client_address, ..SessionQuery::new(session_id) }.into()
        }
        None => {
            let key = PresentedKey::new(text(command, "key"));
            KeyQuery { key, required_scopes, client_address }.into()
        }
    })
}

fn costs(command: &Value, name: &str) -> Vec<Cost> {
    let cost = |cost: &Value| Cost::new(text(cost, "metric"), cost["amount"].as_i64().unwrap_or_default());
    command[name].as_array().into_iter().flatten().map(cost).collect()
}

fn consumption(consumption: &Consumption) -> Value {
    let mut answer = decision(&consumption.validation, &consumption.limits);
    answer["verdict"] = json!(consumption.verdict.to_string());
    answer["allowed"] = json!(consumption.is_allowed());
    answer["already_consumed"] = json!(consumption.already_consumed);
    answer
}

fn decision(validation: &Validation, limits: &Limits) -> Value {
    let mut answer = answers::validation(validation);
    answer["attributes"] = json!(validation.subject.attributes());
    answer["presented_key_id"] = json!(validation.subject.presented_key_id());
    answer["limits"] = limits.iter().map(limit).collect();
    answer
}

fn limit(limit: &LimitDecision) -> Value {
    let decided_by = match limit.decided_by {
        DecidedBy::Lease => "LEASE",
        DecidedBy::Database => "DATABASE",
        DecidedBy::LocalShare => "LOCAL_SHARE",
        DecidedBy::OutagePolicy => "OUTAGE_POLICY",
        _ => "UNSPECIFIED",
    };
    json!({
        "name": limit.name,
        "metric": limit.metric,
        "limit": limit.limit,
        "remaining": limit.remaining,
        "window_ms": limit.window.map(millis),
        "reset_after_ms": limit.reset_after.map(millis),
        "retry_after_ms": limit.retry_after.map(millis),
        "decided_by": decided_by,
        "exceeded": limit.exceeded,
        "shadow": limit.shadow,
    })
}

fn state_name(state: ReservationState) -> &'static str {
    match state {
        ReservationState::Held => "HELD",
        ReservationState::Settled => "SETTLED",
        ReservationState::Cancelled => "CANCELLED",
        ReservationState::Expired => "EXPIRED",
        _ => "UNSPECIFIED",
    }
}

/// Returns whole milliseconds, rounded up.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
