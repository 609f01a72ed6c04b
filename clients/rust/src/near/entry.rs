//! One answer in memory.

use std::time::Duration;

use super::{CacheLimits, liveness::Liveness};
use crate::{Provenance, Source, Subject, Validation, Verdict, clock::Moment};

/// What the service takes at most, and what one of them may look like: what breaks this is for the service to refuse.
const MAX_SCOPES: usize = 32;
const MAX_SCOPE_LEN: usize = 64;

/// The facts of a decision, for whatever scopes are asked for next.
#[derive(Clone, Debug)]
pub(crate) struct CacheEntry {
    verdict: Verdict,
    subject: Subject,
    /// Before the request was sent: whatever happened later may be missing from the answer.
    requested_at: Moment,
    /// How old the answer was when it came.
    age: Duration,
    revision: i64,
    expires_at: Moment,
    /// How long it may be used while the stream tells of every change.
    watched_expires_at: Moment,
}

impl CacheEntry {
    /// `None` when the service wants to be asked each time. Reads its scopes from the subject, so it must be an answer to
    /// a question without any.
    ///
    /// The service has accounted for every end that it knows of: nothing is compared with a clock of this machine's.
    pub(crate) fn new(
        validation: &Validation,
        asked_at: Moment,
        followed_up: bool,
        limits: &CacheLimits,
    ) -> Option<Self> {
        let provenance = validation.provenance;
        let watched = if followed_up {
            provenance.cacheable_while_watched.min(limits.watched_for)
        } else {
            Duration::ZERO
        };
        if provenance.cacheable_for.is_zero() && watched.is_zero() {
            return None;
        }
        Some(Self {
            verdict: validation.verdict,
            subject: validation.subject.clone(),
            requested_at: asked_at,
            age: provenance.age,
            revision: provenance.revision,
            expires_at: asked_at.after(provenance.cacheable_for),
            watched_expires_at: asked_at.after(watched),
        })
    }

    pub(crate) fn subject(&self) -> &Subject {
        &self.subject
    }

    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    /// Whether it may be used now.
    #[inline]
    pub(crate) fn is_usable(&self, now: Moment, liveness: &Liveness) -> bool {
        now < self.expires_at || (now < self.watched_expires_at && liveness.covers(self.requested_at, now))
    }

    /// The decision for these scopes. `None` when they are not as scopes must be.
    #[inline]
    pub(crate) fn into_validation(self, required_scopes: &[&str], now: Moment) -> Option<Validation> {
        let holds_all = self.verdict == Verdict::Valid
            && required_scopes.len() <= MAX_SCOPES
            && required_scopes.iter().all(|scope| self.subject.holds(scope));
        let validation = Validation {
            verdict: self.verdict,
            missing_scopes: Vec::new(),
            provenance: Provenance {
                source: Source::Near,
                age: self.age + now.since(self.requested_at),
                revision: self.revision,
                cacheable_for: self.expires_at.since(now),
                cacheable_while_watched: self.watched_expires_at.since(now),
            },
            subject: self.subject,
        };
        // What most callers get, made where they want it.
        if holds_all { Some(validation) } else { apply_required_scopes(validation, required_scopes) }
    }
}

/// Decides about scopes here, by the scopes that the key holds. `None` when they are not as scopes must be.
pub(crate) fn apply_required_scopes(
    mut validation: Validation,
    required_scopes: &[&str],
) -> Option<Validation> {
    let decides = matches!(validation.verdict, Verdict::Valid | Verdict::InsufficientScope);
    let held = |scope: &&&str| decides && validation.subject.holds(scope);
    let missing = required_scopes.iter().filter(|scope| !held(scope));
    // A held scope is one; only those that are not held need a look, and most callers hold all.
    if required_scopes.len() > MAX_SCOPES || !missing.clone().all(|scope| is_valid_scope(scope)) {
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

fn is_valid_scope(text: &str) -> bool {
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase()
            || byte.is_ascii_digit()
            || matches!(byte, b':' | b'.' | b'_' | b'-' | b'/' | b'*')
    };
    (1..=MAX_SCOPE_LEN).contains(&text.len()) && text.bytes().all(allowed)
}
