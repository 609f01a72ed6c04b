//! What is answered.

use std::{collections::BTreeMap, time::Duration};

use tenant_auth_proto::v1;

use crate::{
    Denied, Error, Principal, Subject, Verdict,
    call::{parse_duration, parse_time},
    principal::SubjectFields,
};

/// The decision about a key or a session, and whose it is. Clones are cheap.
///
/// A denial is an answer, too, so one that nobody looks at is a mistake that the compiler warns of:
///
/// ```compile_fail
/// #![deny(unused_must_use)]
/// # use tenant_auth_client::{Client, Error, PresentedKey};
/// # async fn handle(client: Client, key: PresentedKey) -> Result<(), Error> {
/// client.validate(&key, &["orders:read"]).await?; // who is denied goes on
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a denial is an answer, too: look at it, or use `require`"]
#[non_exhaustive]
pub struct Validation {
    /// The decision.
    pub verdict: Verdict,
    /// Whose key or session it is, also when it was denied; names nobody for [`Verdict::Unknown`],
    /// [`Verdict::Malformed`] and [`Verdict::Unbound`].
    pub subject: Subject,
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
    /// How long the answer may be reused without asking again, counted from before it was asked; zero: not at all.
    pub cacheable_for: Duration,
    /// The same for who has followed the stream of invalidations without a gap since before; zero: as `cacheable_for`.
    pub cacheable_while_watched: Duration,
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
    /// From this client's own memory: the service was not asked.
    Near,
    /// A number this client does not know.
    Unrecognized(i32),
}

impl Validation {
    /// Whether the request may proceed.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.verdict.is_valid()
    }

    /// Whose key or session it is; `None` unless the request may proceed.
    #[must_use]
    pub fn principal(&self) -> Option<Principal> {
        self.is_valid().then(|| Principal::admitted(self.subject.clone()))
    }

    /// Whose key or session it is, or why the request may not proceed.
    ///
    /// # Errors
    /// [`Denied`] with every verdict but [`Verdict::Valid`].
    pub fn into_principal(self) -> Result<Principal, Denied> {
        if self.is_valid() { Ok(Principal::admitted(self.subject)) } else { Err(Denied::new(self)) }
    }

    /// The decision about what cannot even travel as a key.
    pub(crate) fn malformed(session_id: Option<&str>) -> Self {
        let facts = SubjectFields { session_id: session_id.map(str::to_owned), ..SubjectFields::default() };
        let none = Duration::ZERO;
        Self {
            verdict: Verdict::Malformed,
            subject: Subject::new(facts),
            missing_scopes: Vec::new(),
            provenance: Provenance {
                source: Source::NoLookup,
                age: none,
                revision: 0,
                cacheable_for: none,
                cacheable_while_watched: none,
            },
        }
    }

    pub(crate) fn from_key_response(message: v1::ValidateKeyResponse) -> Result<Self, Error> {
        let facts = SubjectFields {
            tenant_id: message.tenant_id,
            tenant_name: message.tenant_name,
            plan: message.plan,
            key_id: message.key_id,
            presented_key_id: String::new(),
            scopes: message.scopes,
            // An end that cannot be read must not turn into "never ends".
            expires_at: message.expires_at.map(parse_time).transpose()?,
            session_id: None,
            attributes: BTreeMap::new(),
        };
        Ok(Self {
            verdict: Verdict::from_wire(message.verdict),
            subject: Subject::new(facts),
            missing_scopes: message.missing_scopes,
            provenance: Provenance::from_wire(message.provenance.unwrap_or_default())?,
        })
    }

    pub(crate) fn from_session_response(
        session_id: String,
        message: v1::ValidateSessionResponse,
    ) -> Result<Self, Error> {
        let facts = SubjectFields {
            tenant_id: message.tenant_id,
            tenant_name: message.tenant_name,
            plan: message.plan,
            key_id: message.key_id,
            presented_key_id: message.presented_key_id,
            scopes: message.scopes,
            expires_at: message.expires_at.map(parse_time).transpose()?,
            session_id: Some(session_id),
            attributes: message.attributes.into_iter().collect(),
        };
        Ok(Self {
            verdict: Verdict::from_wire(message.verdict),
            subject: Subject::new(facts),
            missing_scopes: message.missing_scopes,
            provenance: Provenance::from_wire(message.provenance.unwrap_or_default())?,
        })
    }
}

impl Provenance {
    fn from_wire(message: v1::Provenance) -> Result<Self, Error> {
        Ok(Self {
            source: Source::from_wire(message.source),
            age: parse_duration(message.age.unwrap_or_default())?,
            revision: message.revision,
            cacheable_for: parse_duration(message.cacheable_for.unwrap_or_default())?,
            cacheable_while_watched: parse_duration(message.cacheable_while_watched.unwrap_or_default())?,
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
    fn empty_response_is_denied_and_not_cacheable() {
        let validation = Validation::from_key_response(v1::ValidateKeyResponse::default()).unwrap();
        assert!(!validation.is_valid());
        assert_eq!(validation.provenance.cacheable_for, Duration::ZERO);
    }

    #[test]
    fn unreadable_expiry_is_an_error() {
        let mut message = v1::ValidateKeyResponse { verdict: 1, ..Default::default() };
        message.expires_at = Some(Default::default());
        message.expires_at.as_mut().unwrap().seconds = i64::MIN;
        message.expires_at.as_mut().unwrap().nanos = -1;
        assert!(matches!(Validation::from_key_response(message), Err(Error::Other { .. })));
    }
}
