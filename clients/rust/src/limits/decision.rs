//! What limits say about a request.

use std::{
    ops::Deref,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tenant_auth_proto::v1;

use crate::{
    Error,
    call::{parse_duration, parse_time},
};

/// What one limit says about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitDecision {
    /// The name of the limit.
    pub name: String,
    /// The metric that it limits.
    pub metric: String,
    /// The amount of a quota, the capacity of a rate's bucket, or the balance of credits when it was last read.
    pub limit: i64,
    /// What is left, at least: other replicas may hold more.
    pub remaining: i64,
    /// The length of a quota's window, or the time in which a rate's bucket fills; `None` for credits.
    pub window: Option<Duration>,
    /// Time until the window ends, the bucket is full, or credits are refilled; `None` if nothing is added by itself.
    pub reset_after: Option<Duration>,
    /// If exceeded: the time after which a retry can succeed, at the earliest; `None` if no time is known.
    pub retry_after: Option<Duration>,
    /// Where it was decided.
    pub decided_by: DecidedBy,
    /// Whether the limit has less left than the request costs.
    pub exceeded: bool,
    /// Whether it is a shadow limit: it denies nothing.
    pub shadow: bool,
    /// The start of the window that the amount is counted in; `None` for credits and rates.
    pub window_start: Option<SystemTime>,
}

/// Where a limit was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DecidedBy {
    /// From the lease of the replica, or from what the database said when it last refused.
    Lease,
    /// By the database, for this request.
    Database,
    /// From the lease of the replica while the database does not respond.
    LocalShare,
    /// By the outage policy `OPEN`: the limit was not checked.
    OutagePolicy,
    /// A value that this client does not know.
    Unrecognized(i32),
}

/// The limits that apply to a request, in the order of their names. A layer with costs puts them into the extensions of the
/// request. Clones share them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits(Arc<[LimitDecision]>);

impl LimitDecision {
    /// Returns whether this limit denies the request.
    #[must_use]
    pub fn denies(&self) -> bool {
        self.exceeded && !self.shadow
    }

    fn from_wire(message: v1::LimitDecision) -> Result<Self, Error> {
        let duration = |message: Option<_>| message.map(parse_duration).transpose();
        Ok(Self {
            limit: message.limit,
            remaining: message.remaining,
            window: duration(message.window)?,
            reset_after: duration(message.reset_after)?,
            retry_after: duration(message.retry_after)?,
            decided_by: DecidedBy::from_wire(message.decided_by),
            exceeded: message.exceeded,
            shadow: message.shadow,
            window_start: message.window_start.map(parse_time).transpose()?,
            name: message.name,
            metric: message.metric,
        })
    }
}

impl DecidedBy {
    fn from_wire(number: i32) -> Self {
        match v1::DecidedBy::try_from(number) {
            Ok(v1::DecidedBy::Lease) => Self::Lease,
            Ok(v1::DecidedBy::Database) => Self::Database,
            Ok(v1::DecidedBy::LocalShare) => Self::LocalShare,
            Ok(v1::DecidedBy::OutagePolicy) => Self::OutagePolicy,
            Ok(v1::DecidedBy::Unspecified) | Err(_) => Self::Unrecognized(number),
        }
    }
}

impl Limits {
    pub(super) fn from_wire(messages: Vec<v1::LimitDecision>) -> Result<Self, Error> {
        let decisions: Result<Vec<_>, _> = messages.into_iter().map(LimitDecision::from_wire).collect();
        Ok(Self(decisions?.into()))
    }

    /// Returns the limits that a layer of this crate has put into the extensions of a request.
    #[must_use]
    pub fn of(extensions: &http::Extensions) -> Option<&Self> {
        extensions.get()
    }

    /// Returns the time after which a retry can succeed, at the earliest; `None` if no limit denies the request, or no time is
    /// known for one that does.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let denying = self.iter().filter(|limit| limit.denies());
        denying
            .map(|limit| limit.retry_after)
            .try_fold(None, |longest, time| Some(longest.max(Some(time?))))?
    }
}

impl Deref for Limits {
    type Target = [LimitDecision];

    fn deref(&self) -> &[LimitDecision] {
        &self.0
    }
}

impl<'a> IntoIterator for &'a Limits {
    type Item = &'a LimitDecision;
    type IntoIter = std::slice::Iter<'a, LimitDecision>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns limits of a response.
    pub(crate) fn limits(messages: Vec<v1::LimitDecision>) -> Limits {
        Limits::from_wire(messages).unwrap()
    }

    pub(crate) fn exceeded(name: &str, retry_after_seconds: Option<i64>) -> v1::LimitDecision {
        let retry_after = retry_after_seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
        v1::LimitDecision { name: name.to_owned(), exceeded: true, retry_after, ..Default::default() }
    }

    #[test]
    fn retry_waits_for_the_last_limit_that_denies() {
        let passed = v1::LimitDecision { exceeded: false, ..exceeded("passed", Some(90)) };
        let shadow = v1::LimitDecision { shadow: true, ..exceeded("shadow", None) };
        for (messages, expected) in [
            (vec![], None),
            (vec![passed.clone()], None),
            (vec![exceeded("a", Some(3)), passed, exceeded("b", Some(7)), shadow], Some(7)),
            (vec![exceeded("a", Some(3)), exceeded("b", None)], None),
        ] {
            assert_eq!(
                limits(messages.clone()).retry_after(),
                expected.map(Duration::from_secs),
                "{messages:?}"
            );
        }
    }

    #[test]
    fn decisions_with_a_negative_duration_are_an_error() {
        let message = exceeded("a", Some(-1));
        assert!(matches!(Limits::from_wire(vec![message]), Err(Error::Other { .. })));
    }

    #[test]
    fn unknown_place_of_a_decision_is_kept() {
        assert_eq!(DecidedBy::from_wire(99), DecidedBy::Unrecognized(99));
        assert_eq!(DecidedBy::from_wire(0), DecidedBy::Unrecognized(0));
        assert_eq!(DecidedBy::from_wire(2), DecidedBy::Database);
    }
}
