//! Messages of the state of this replica.

use std::time::Duration;

use tenant_auth_proto::v1;

use super::{
    fields::FieldValidator,
    time::{duration, parse_duration},
    timestamp,
};
use crate::{
    domain::{cache_policy::UpstreamHealth, clock::UnixMillis, inspect::ReplicaState, verdict::Revision},
    grpc::error::ApiError,
};

/// The longest time that a call may wait for a revision.
const MAX_WAIT: Duration = Duration::from_secs(10);

pub(in crate::grpc) fn parse_wait_for_revision(
    request: &v1::WaitForRevisionRequest,
) -> Result<(Revision, Option<Duration>), ApiError> {
    let mut fields = FieldValidator::new();
    if request.revision < 1 {
        fields.add_violation("revision", "must be the revision of a change, at least 1");
    }
    let timeout = match request.timeout {
        None => Some(None),
        Some(timeout) => fields.check("timeout", parse_duration(timeout)).map(Some),
    };
    if timeout.flatten().is_some_and(|timeout| timeout > MAX_WAIT) {
        fields.add_violation("timeout", "must be at most 10s");
    }
    match timeout {
        Some(timeout) if fields.is_valid() => Ok((Revision(request.revision), timeout)),
        _ => Err(fields.into_error()),
    }
}

pub(in crate::grpc) fn replica_state_message(
    state: ReplicaState,
    oldest_answer: Option<Duration>,
    now: UnixMillis,
) -> v1::ReplicaState {
    v1::ReplicaState {
        applied_revision: state.revision.0,
        feed_age: state.feed_age.map(duration),
        lookups: lookup_state(state.upstream_health).into(),
        max_answer_age: Some(duration(state.max_answer_age)),
        oldest_answer_age: oldest_answer.map(duration),
        now: Some(timestamp(now)),
    }
}

pub(super) fn lookup_state(health: UpstreamHealth) -> v1::LookupState {
    match health {
        UpstreamHealth::Healthy => v1::LookupState::Healthy,
        UpstreamHealth::FeedSilent => v1::LookupState::FeedSilent,
        UpstreamHealth::Failing { .. } => v1::LookupState::BreakerOpen,
    }
}
