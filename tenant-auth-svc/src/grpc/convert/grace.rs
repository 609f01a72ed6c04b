//! The grace of one replica.

use std::time::Duration;

use tenant_auth_proto::v1;

use super::{
    fields::Fields,
    time::{duration, span, timestamp},
};
use crate::{
    domain::{
        grace::{MAX_GRACE, MAX_OVERRIDE},
        outage::GraceState,
        text::Reason,
    },
    grpc::error::ApiError,
};

pub(in crate::grpc) fn set_grace_request(
    request: &v1::SetOutageGraceRequest,
) -> Result<(Duration, Duration, Reason), ApiError> {
    let mut fields = Fields::new();
    let grace = fields.take("grace", within(request.grace, Duration::ZERO, MAX_GRACE));
    let expires_in =
        fields.take("expires_in", within(request.expires_in, Duration::from_secs(1), MAX_OVERRIDE));
    let reason = fields.take("reason", Reason::parse(&request.reason));
    match (grace, expires_in, reason) {
        (Some(grace), Some(expires_in), Some(reason)) => Ok((grace, expires_in, reason)),
        _ => Err(fields.error()),
    }
}

pub(in crate::grpc) fn reset_grace_request(
    request: &v1::ResetOutageGraceRequest,
) -> Result<Reason, ApiError> {
    let mut fields = Fields::new();
    fields.take("reason", Reason::parse(&request.reason)).ok_or_else(|| fields.error())
}

fn within(given: Option<prost_types::Duration>, least: Duration, most: Duration) -> Result<Duration, String> {
    let given = given.ok_or("must be given")?;
    let time = span(given).map_err(|error| error.to_string())?;
    if (least..=most).contains(&time) {
        Ok(time)
    } else {
        Err(format!("must be from {} s to {} s", least.as_secs(), most.as_secs()))
    }
}

pub(in crate::grpc) fn grace_message(state: GraceState) -> v1::OutageGrace {
    let (expires_at, reason) = state.set.map(|(at, reason)| (timestamp(at), reason)).unzip();
    v1::OutageGrace {
        grace: Some(duration(state.in_force)),
        configured: Some(duration(state.configured)),
        expires_at,
        reason: reason.map_or_else(String::new, |reason| reason.as_str().to_owned()),
    }
}
