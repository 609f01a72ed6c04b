//! One answer in memory.

use std::time::{Duration, SystemTime};

use super::{Limits, liveness::Liveness};
use crate::{Principal, Provenance, Source, Validation, Verdict, clock::Moment};

/// What the service takes at most, and what one of them may look like: what breaks this is for the service to refuse.
const MOST_SCOPES: usize = 32;
const LONGEST_SCOPE: usize = 64;

/// The facts of a decision, for whatever scopes are asked for next.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    verdict: Verdict,
    principal: Principal,
    /// Before the request was sent: whatever happened later may be missing from the answer.
    asked_at: Moment,
    /// How old the answer was when it came.
    age: Duration,
    revision: i64,
    good_until: Moment,
    /// How long it may be used while the stream tells of every change; not before `good_until`.
    watched_until: Moment,
}

/// What was asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A key.
    Key,
    /// A session without a key.
    Session,
    /// A session and a key presented along with it. No answer names that key, so no news can be told to concern it.
    SessionAndKey,
}

impl Entry {
    /// `None` when the service wants to be asked each time. Reads its scopes from the principal, so it must be an
    /// answer to a question without any.
    pub(crate) fn new(
        kind: Kind,
        validation: &Validation,
        asked_at: Moment,
        followed_up: bool,
        wall: SystemTime,
        limits: &Limits,
    ) -> Option<Self> {
        let provenance = validation.provenance;
        if provenance.cacheable_for.is_zero() {
            return None;
        }
        let good_until = asked_at.after(provenance.cacheable_for);
        let lasting = matches!(
            validation.verdict,
            Verdict::Valid
                | Verdict::InsufficientScope
                | Verdict::Revoked
                | Verdict::Expired
                | Verdict::TenantSuspended
        );
        let watched_for = match kind {
            _ if !lasting || !followed_up => Duration::ZERO,
            Kind::Key => limits.watched_for,
            // The service has to see a session in use now and then, or one whose end slides ends in the middle of it.
            Kind::Session => validation.principal.expires_at().map_or(limits.watched_for, |end| {
                limits.watched_for.min(end.duration_since(wall).unwrap_or_default() / 10)
            }),
            Kind::SessionAndKey => Duration::ZERO,
        };
        Some(Self {
            verdict: validation.verdict,
            principal: validation.principal.clone(),
            asked_at,
            age: provenance.age,
            revision: provenance.revision,
            good_until,
            watched_until: good_until.max(asked_at.after(watched_for)),
        })
    }

    pub(crate) fn principal(&self) -> &Principal {
        &self.principal
    }

    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    /// Whether it may be used now. The time of day is only read when something ends by it.
    #[inline]
    pub(crate) fn is_good(
        &self,
        now: Moment,
        liveness: &Liveness,
        wall: impl FnOnce() -> SystemTime,
    ) -> bool {
        let in_time =
            now < self.good_until || (now < self.watched_until && liveness.covers(self.asked_at, now));
        // Withdrawn and over are final; everything else ends with the key.
        let is_final = matches!(self.verdict, Verdict::Revoked | Verdict::Expired);
        in_time && (is_final || self.principal.expires_at().is_none_or(|end| wall() < end))
    }

    /// The decision for these scopes. `None` when they are not as scopes must be.
    #[inline]
    pub(crate) fn into_answer(self, required_scopes: &[&str], now: Moment) -> Option<Validation> {
        let holds_all = self.verdict == Verdict::Valid
            && required_scopes.len() <= MOST_SCOPES
            && required_scopes.iter().all(|scope| self.principal.holds(scope));
        let validation = Validation {
            verdict: self.verdict,
            missing_scopes: Vec::new(),
            provenance: Provenance {
                source: Source::Near,
                age: self.age + now.since(self.asked_at),
                revision: self.revision,
                cacheable_for: self.good_until.since(now),
            },
            principal: self.principal,
        };
        // What most callers get, made where they want it.
        if holds_all { Some(validation) } else { requiring(validation, required_scopes) }
    }
}

/// Decides about scopes here, by the scopes that the key holds. `None` when they are not as scopes must be.
pub(crate) fn requiring(mut validation: Validation, required_scopes: &[&str]) -> Option<Validation> {
    let decides = matches!(validation.verdict, Verdict::Valid | Verdict::InsufficientScope);
    let held = |scope: &&&str| decides && validation.principal.holds(scope);
    let missing = required_scopes.iter().filter(|scope| !held(scope));
    // A held scope is one; only those that are not held need a look, and most callers hold all.
    if required_scopes.len() > MOST_SCOPES || !missing.clone().all(|scope| is_scope(scope)) {
        return None;
    }
    if decides {
        let mut missing: Vec<_> = missing.map(|scope| (*scope).to_owned()).collect();
        // As the service tells them.
        missing.sort_unstable();
        missing.dedup();
        validation.verdict = if missing.is_empty() { Verdict::Valid } else { Verdict::InsufficientScope };
        validation.missing_scopes = missing;
    }
    Some(validation)
}

fn is_scope(text: &str) -> bool {
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase()
            || byte.is_ascii_digit()
            || matches!(byte, b':' | b'.' | b'_' | b'-' | b'/' | b'*')
    };
    (1..=LONGEST_SCOPE).contains(&text.len()) && text.bytes().all(allowed)
}
