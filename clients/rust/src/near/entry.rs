//! One cached answer.

use std::time::Duration;

use super::{CacheLimits, liveness::Liveness};
use crate::{ClientAddress, Provenance, Source, Subject, Validation, Verdict, clock::Moment};

/// Limits of the service for scopes: how many, and how long. The service reports what is wrong with invalid
/// scopes.
const MAX_SCOPES: usize = 32;
const MAX_SCOPE_LEN: usize = 64;

/// What a caller requires of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Requirements<'a> {
    /// Scopes that the key must hold.
    pub(crate) scopes: &'a [&'a str],
    /// The address of the customer, if it is known.
    pub(crate) client_address: Option<ClientAddress>,
}

/// A cached decision, from which the decision for any required scopes is derived.
#[derive(Clone, Debug)]
pub(crate) struct CacheEntry {
    verdict: Verdict,
    subject: Subject,
    /// When the request was sent. Later changes may be missing from the answer.
    requested_at: Moment,
    /// Age of the answer when it arrived.
    age: Duration,
    revision: i64,
    expires_at: Moment,
    /// Expiry while the stream announces every change.
    watched_expires_at: Moment,
}

impl CacheEntry {
    /// Returns `None` if the service does not allow caching. Scopes and networks are read from the subject, so the
    /// answer must be to a request without scopes; the address of the request does not matter.
    ///
    /// The service has already shortened the lifetimes by every expiry that it knows, so no expiry is
    /// compared with the clock of this machine.
    pub(crate) fn new(
        validation: &Validation,
        requested_at: Moment,
        is_covered: bool,
        limits: &CacheLimits,
    ) -> Option<Self> {
        let provenance = validation.provenance;
        let watched = if is_covered {
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
            requested_at,
            age: provenance.age,
            revision: provenance.revision,
            expires_at: requested_at.after(provenance.cacheable_for),
            watched_expires_at: requested_at.after(watched),
        })
    }

    pub(crate) fn subject(&self) -> &Subject {
        &self.subject
    }

    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    /// Returns whether the entry may be used now.
    #[inline]
    pub(crate) fn is_usable(&self, now: Moment, liveness: &Liveness) -> bool {
        now < self.expires_at || (now < self.watched_expires_at && liveness.covers(self.requested_at, now))
    }

    /// Returns the decision for these requirements; `None` if a scope is invalid.
    #[inline]
    pub(crate) fn into_validation(self, required: Requirements<'_>, now: Moment) -> Option<Validation> {
        let holds_all = self.verdict == Verdict::Valid
            && self.subject.networks().is_everywhere()
            && required.scopes.len() <= MAX_SCOPES
            && required.scopes.iter().all(|scope| self.subject.holds(scope));
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
        // The common case, built in place without a copy.
        if holds_all { Some(validation) } else { apply_requirements(validation, required) }
    }
}

/// Applies requirements to the answer to a request without scopes, from any address; `None` if a scope is invalid.
pub(crate) fn apply_requirements(
    mut validation: Validation,
    required: Requirements<'_>,
) -> Option<Validation> {
    let decides = matches!(
        validation.verdict,
        Verdict::Valid | Verdict::AddressRequired | Verdict::AddressNotAllowed | Verdict::InsufficientScope
    );
    let held = |scope: &&&str| decides && validation.subject.holds(scope);
    let missing = required.scopes.iter().filter(|scope| !held(scope));
    // A held scope is valid. Only missing scopes are checked, and most callers hold all of them.
    if required.scopes.len() > MAX_SCOPES || !missing.clone().all(|scope| is_valid_scope(scope)) {
        return None;
    }
    let denial = match validation.verdict {
        // A denial of the address without the networks that explain it: it stands.
        verdict @ (Verdict::AddressRequired | Verdict::AddressNotAllowed)
            if validation.subject.networks().is_everywhere() =>
        {
            Some(verdict)
        }
        _ => validation.subject.networks().denial(required.client_address),
    };
    if let (true, Some(denial)) = (decides, denial) {
        validation.verdict = denial;
        validation.missing_scopes = Vec::new();
    } else if decides {
        let mut missing: Vec<_> = missing.map(|scope| (*scope).to_owned()).collect();
        // In the same order as the service.
        missing.sort_unstable();
        missing.dedup();
        validation.verdict = if missing.is_empty() { Verdict::Valid } else { Verdict::InsufficientScope };
        validation.missing_scopes = missing;
    }
    Some(validation)
}

pub(crate) fn is_valid_scope(text: &str) -> bool {
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase()
            || byte.is_ascii_digit()
            || matches!(byte, b':' | b'.' | b'_' | b'-' | b'/' | b'*')
    };
    (1..=MAX_SCOPE_LEN).contains(&text.len()) && text.bytes().all(allowed)
}
