//! Messages of the stale-if-error grace of one replica.

use std::time::Duration;

use tenant_auth_proto::v1;

use super::{
    fields::FieldValidator,
    time::{duration, parse_duration, timestamp},
};
use crate::{
    domain::{
        grace::{MAX_GRACE, MAX_OVERRIDE_DURATION},
        outage::GraceState,
        text::Reason,
    },
    grpc::error::ApiError,
};

pub(in crate::grpc) fn parse_set_grace(
    request: &v1::SetOutageGraceRequest,
) -> Result<(Duration, Duration, Reason), ApiError> {
    let mut fields = FieldValidator::new();
    let grace = fields.check("grace", parse_duration_within(request.grace, Duration::ZERO, MAX_GRACE));
    let expires_in = fields.check(
        "expires_in",
        parse_duration_within(request.expires_in, Duration::from_secs(1), MAX_OVERRIDE_DURATION),
    );
    let reason = fields.check("reason", Reason::parse(&request.reason));
    match (grace, expires_in, reason) {
        (Some(grace), Some(expires_in), Some(reason)) => Ok((grace, expires_in, reason)),
        _ => Err(fields.into_error()),
    }
}

pub(in crate::grpc) fn parse_reset_grace(request: &v1::ResetOutageGraceRequest) -> Result<Reason, ApiError> {
    let mut fields = FieldValidator::new();
    fields.check("reason", Reason::parse(&request.reason)).ok_or_else(|| fields.into_error())
}

fn parse_duration_within(
    duration: Option<prost_types::Duration>,
    min: Duration,
    max: Duration,
) -> Result<Duration, String> {
    let duration = duration.ok_or("must be set")?;
    let time = parse_duration(duration).map_err(|error| error.to_string())?;
    if (min..=max).contains(&time) {
        Ok(time)
    } else {
        Err(format!("must be from {} s to {} s", min.as_secs(), max.as_secs()))
    }
}

pub(in crate::grpc) fn grace_message(state: GraceState) -> v1::OutageGrace {
    let (expires_at, reason) = state.active_override.map(|(at, reason)| (timestamp(at), reason)).unzip();
    v1::OutageGrace {
        grace: Some(duration(state.in_force)),
        configured: Some(duration(state.configured)),
        expires_at,
        reason: reason.map_or_else(String::new, |reason| reason.as_str().to_owned()),
    }
}
