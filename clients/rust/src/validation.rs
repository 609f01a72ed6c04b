//! What is answered.

use std::time::{Duration, SystemTime};

use tenant_auth_proto::v1;

use crate::{
    Error, Verdict,
    call::{duration, time},
};

/// The decision about a key, and whose key it is.
///
/// For [`Verdict::Unknown`] and [`Verdict::Malformed`] nothing but the verdict and its provenance is known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Validation {
    /// The decision.
    pub verdict: Verdict,
    /// The tenant that owns the key.
    pub tenant_id: String,
    /// The tenant's display name.
    pub tenant_name: String,
    /// The tenant's plan, an opaque label.
    pub plan: String,
    /// The key's public id, safe to log.
    pub key_id: String,
    /// Every scope the key holds, sorted.
    pub scopes: Vec<String>,
    /// When the key ends by itself; `None`: never.
    pub expires_at: Option<SystemTime>,
    /// With [`Verdict::InsufficientScope`]: the required scopes that the key lacks.
    pub missing_scopes: Vec<String>,
    /// Where the answer came from and how long it may be reused.
    pub provenance: Provenance,
}

/// How much an answer is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Provenance {
    /// Where the answer came from.
    pub source: Source,
    /// Time since the database was asked.
    pub age: Duration,
    /// The database's change-log sequence number that this answer reflects.
    pub revision: i64,
    /// How long the answer may be reused without asking again; zero: not at all.
    pub cacheable_for: Duration,
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// No lookup was needed.
    NoLookup,
    /// Read from the database for this request.
    Database,
    /// From the service's memory, within the fresh time.
    Fresh,
    /// From its memory, past the fresh time, while a reload runs.
    Refreshing,
    /// From its memory, past the fresh time, because the database does not answer.
    Stale,
    /// From its memory: the database was found not to hold it a moment ago.
    Negative,
    /// A number this client does not know.
    Unrecognized(i32),
}

impl Validation {
    /// Whether the request may proceed.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.verdict.is_valid()
    }

    pub(crate) fn from_wire(message: v1::ValidateKeyResponse) -> Result<Self, Error> {
        Ok(Self {
            verdict: Verdict::from_wire(message.verdict),
            tenant_id: message.tenant_id,
            tenant_name: message.tenant_name,
            plan: message.plan,
            key_id: message.key_id,
            scopes: message.scopes,
            // An end that cannot be read must not turn into "never ends".
            expires_at: message.expires_at.map(time).transpose()?,
            missing_scopes: message.missing_scopes,
            provenance: Provenance::from_wire(message.provenance.unwrap_or_default())?,
        })
    }
}

impl Provenance {
    fn from_wire(message: v1::Provenance) -> Result<Self, Error> {
        Ok(Self {
            source: Source::from_wire(message.source),
            age: duration(message.age.unwrap_or_default())?,
            revision: message.revision,
            cacheable_for: duration(message.cacheable_for.unwrap_or_default())?,
        })
    }
}

impl Source {
    fn from_wire(number: i32) -> Self {
        match v1::Source::try_from(number) {
            Ok(v1::Source::Unspecified) => Self::NoLookup,
            Ok(v1::Source::Database) => Self::Database,
            Ok(v1::Source::Fresh) => Self::Fresh,
            Ok(v1::Source::Refreshing) => Self::Refreshing,
            Ok(v1::Source::Stale) => Self::Stale,
            Ok(v1::Source::Negative) => Self::Negative,
            Err(_) => Self::Unrecognized(number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_answer_denies_and_may_not_be_kept() {
        let validation = Validation::from_wire(v1::ValidateKeyResponse::default()).unwrap();
        assert!(!validation.is_valid());
        assert_eq!(validation.provenance.cacheable_for, Duration::ZERO);
    }

    #[test]
    fn an_unreadable_end_is_an_error_and_not_forever() {
        let mut message = v1::ValidateKeyResponse { verdict: 1, ..Default::default() };
        message.expires_at = Some(Default::default());
        message.expires_at.as_mut().unwrap().seconds = i64::MIN;
        message.expires_at.as_mut().unwrap().nanos = -1;
        assert!(matches!(Validation::from_wire(message), Err(Error::Other { .. })));
    }
}
