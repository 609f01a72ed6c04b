//! What a response means for what is taken.

use std::error::Error;

use tenant_auth_proto::v1::{DecidedBy, LimitDecision, Verdict};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    client::Decided,
    client_log::{Call, Entry, Outcome},
};

/// Why an attempt has no decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The replica says that it did not decide.
    NotTaken,
    /// There was no replica.
    NotSent,
    /// Nobody knows.
    Lost,
}

/// Panics at an error that the contract does not provide for.
pub(crate) fn failure_of(status: &Status) -> Failure {
    let is_of_service = status.get_error_details().error_info().is_some();
    match status.code() {
        Code::Unavailable | Code::ResourceExhausted if is_of_service => Failure::NotTaken,
        _ if is_refused_connection(status) => Failure::NotSent,
        Code::DeadlineExceeded => Failure::Lost,
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal if !is_of_service => {
            Failure::Lost
        }
        _ => panic!("unexpected: {status:?}"),
    }
}

fn is_refused_connection(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| matches!(error.kind(), std::io::ErrorKind::ConnectionRefused))
        {
            return true;
        }
        source = error.source();
    }
    false
}

/// Panics at a decision that cannot be right.
pub(crate) fn outcome_of((verdict, limits, is_repeated): Decided, entry: &Entry) -> Outcome {
    let windows = |exceeded_only: bool| {
        let limits = limits.iter().filter(|limit| limit.exceeded || !exceeded_only);
        limits
            .map(|limit| {
                let start = limit.window_start.as_ref();
                (
                    limit.name.clone(),
                    start.map(|start| start.seconds * 1_000 + i64::from(start.nanos) / 1_000_000),
                )
            })
            .collect::<Vec<_>>()
    };
    match verdict {
        Verdict::Valid if is_repeated => {
            let is_again = matches!(entry.call, Call::ConsumeAgain(_));
            assert!(is_again || entry.attempts.len() > 1, "never sent before: {entry:?}");
            Outcome::AlreadyTaken
        }
        Verdict::Valid => {
            assert!(!limits.is_empty() && limits.iter().all(|limit| !limit.exceeded), "{limits:?}");
            Outcome::Admitted(windows(false))
        }
        Verdict::QuotaExceeded | Verdict::RateLimited => {
            let exceeded = windows(true);
            assert!(!exceeded.is_empty(), "{limits:?}");
            let is_asked =
                |limit: &LimitDecision| !limit.exceeded || limit.decided_by() == DecidedBy::Database;
            let is_asked = limits.iter().all(is_asked);
            Outcome::Denied(exceeded, if is_asked { DecidedBy::Database } else { DecidedBy::Lease })
        }
        other => panic!("a valid key got {other:?}"),
    }
}
