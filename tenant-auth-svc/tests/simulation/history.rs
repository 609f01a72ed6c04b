//! The history of each state.

use std::time::Duration;

use tenant_auth_svc::domain::verdict::Verdict;

/// A position in the order of events. Time alone does not order them, because many happen at the same
/// simulated time.
pub(crate) type EventOrder = u64;

/// The states of one object, oldest first, each with the event and the time from which it applied.
#[derive(Debug)]
pub(crate) struct History<T>(Vec<(EventOrder, Duration, T)>);

impl<T: Clone + PartialEq> History<T> {
    /// Creates a history with this state since before the first event.
    pub(crate) fn new(state: T) -> Self {
        Self(vec![(0, Duration::ZERO, state)])
    }

    pub(crate) fn last(&self) -> &T {
        &self.0[self.0.len() - 1].2
    }

    /// Returns the event since which the current state applies.
    pub(crate) fn since(&self) -> EventOrder {
        self.0[self.0.len() - 1].0
    }

    pub(crate) fn change_at(&mut self, order: EventOrder, at: Duration, state: &T) {
        if self.last() != state {
            self.0.push((order, at, state.clone()));
        }
    }

    /// Returns the states that a replica may still assume, newest first. If a change was reported to the
    /// replica (`was_reported`), it does not assume an earlier state. No replica assumes a state that had
    /// ended `before` the record was read.
    pub(crate) fn believable(
        &self,
        was_reported: impl Fn(EventOrder) -> bool,
        before: impl Fn(EventOrder, Duration) -> bool,
    ) -> impl Iterator<Item = &T> {
        let older = self.0.iter().rev().zip(self.0.iter().rev().skip(1));
        let older = older.take_while(move |((end, at, _), _)| !was_reported(*end) && !before(*end, *at));
        std::iter::once(self.last()).chain(older.map(|(_, (_, _, state))| state))
    }

    /// Returns all states, oldest first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, _, state)| state)
    }

    /// Whether any state matches.
    pub(crate) fn any(&self, matches: impl Fn(&T) -> bool) -> bool {
        self.0.iter().any(|(_, _, state)| matches(state))
    }

    /// Returns the state at an event.
    pub(crate) fn at(&self, order: EventOrder) -> &T {
        let later = self.0.partition_point(|(since, ..)| *since <= order);
        &self.0[later.max(1) - 1].2
    }
}

/// The fields of a key that a verdict depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyRow {
    pub(crate) id: String,
    pub(crate) tenant: String,
    pub(crate) may_read: bool,
    pub(crate) expires_at: Option<i64>,
    pub(crate) revoked: bool,
    pub(crate) disabled: bool,
    /// Whether it may be used from the address of the callers.
    pub(crate) admits_caller: bool,
}

/// How a key was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyEnd {
    Revoked,
    Disabled,
}

impl KeyRow {
    /// Returns how the key was ended, if it was.
    pub(crate) fn end(&self) -> Option<KeyEnd> {
        let disabled = self.disabled.then_some(KeyEnd::Disabled);
        self.revoked.then_some(KeyEnd::Revoked).or(disabled)
    }

    /// Computes the verdict, deliberately with rules written separately from the service's.
    pub(crate) fn verdict(&self, suspended: bool, reads: bool, wall: i64) -> Verdict {
        match self {
            Self { revoked: true, .. } => Verdict::Revoked,
            Self { expires_at: Some(end), .. } if *end <= wall => Verdict::Expired,
            Self { disabled: true, .. } => Verdict::Disabled,
            _ if suspended => Verdict::TenantSuspended,
            Self { admits_caller: false, .. } => Verdict::AddressNotAllowed,
            Self { may_read: false, .. } if reads => Verdict::InsufficientScope,
            _ => Verdict::Valid,
        }
    }
}
