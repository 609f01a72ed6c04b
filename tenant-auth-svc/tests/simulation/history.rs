//! What was true when.

use std::time::Duration;

use tenant_auth_svc::domain::verdict::Verdict;

/// A place in the order of events. Time alone does not order them: many happen in no time.
pub(crate) type EventOrder = u64;

/// The states of one thing, the oldest first, each with the moment from which it held.
#[derive(Debug)]
pub(crate) struct History<T>(Vec<(EventOrder, Duration, T)>);

impl<T: Clone + PartialEq> History<T> {
    /// It has been like this since before everything.
    pub(crate) fn new(state: T) -> Self {
        Self(vec![(0, Duration::ZERO, state)])
    }

    pub(crate) fn last(&self) -> &T {
        &self.0[self.0.len() - 1].2
    }

    /// Since when it has been as it is.
    pub(crate) fn since(&self) -> EventOrder {
        self.0[self.0.len() - 1].0
    }

    pub(crate) fn change_at(&mut self, order: EventOrder, at: Duration, state: &T) {
        if self.last() != state {
            self.0.push((order, at, state.clone()));
        }
    }

    /// The states that somebody may still believe in, the newest first: whoever was `told` of a change does not believe in
    /// what was before it, and nobody in what had ended `before` what is believed was read.
    pub(crate) fn believable(
        &self,
        told: impl Fn(EventOrder) -> bool,
        before: impl Fn(EventOrder, Duration) -> bool,
    ) -> impl Iterator<Item = &T> {
        let older = self.0.iter().rev().zip(self.0.iter().rev().skip(1));
        let older = older.take_while(move |((end, at, _), _)| !told(*end) && !before(*end, *at));
        std::iter::once(self.last()).chain(older.map(|(_, (_, _, state))| state))
    }

    /// The state that was there at an event.
    pub(crate) fn at(&self, order: EventOrder) -> &T {
        let later = self.0.partition_point(|(since, ..)| *since <= order);
        &self.0[later.max(1) - 1].2
    }
}

/// A key, as far as a verdict depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyRow {
    pub(crate) id: String,
    pub(crate) tenant: String,
    pub(crate) may_read: bool,
    pub(crate) expires_at: Option<i64>,
    pub(crate) revoked: bool,
}

impl KeyRow {
    /// The rules once more, on purpose not those of the service.
    pub(crate) fn verdict(&self, suspended: bool, reads: bool, wall: i64) -> Verdict {
        match self {
            Self { revoked: true, .. } => Verdict::Revoked,
            Self { expires_at: Some(end), .. } if *end <= wall => Verdict::Expired,
            _ if suspended => Verdict::TenantSuspended,
            Self { may_read: false, .. } if reads => Verdict::InsufficientScope,
            _ => Verdict::Valid,
        }
    }
}
