//! The decision about a key or a session.

use std::{collections::BTreeMap, time::Duration};

use tenant_auth_proto::v1;

use crate::{
    Denied, Error, Principal, Subject, Verdict,
    call::{parse_duration, parse_time},
    network::AnswerNetworks,
    principal::SubjectFields,
};

/// The decision about a key or a session, and its owner. Clones are cheap.
///
/// A denial is not an error, so the compiler warns about an unused validation:
///
/// ```compile_fail
/// #![deny(unused_must_use)]
/// # use tenant_auth_client::{Client, Error, PresentedKey};
/// # async fn handle(client: Client, key: PresentedKey) -> Result<(), Error> {
/// client.validate(&key, &["orders:read"]).await?; // bug: a denied request proceeds
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a denial is not an error: check the verdict, or use `require`"]
#[non_exhaustive]
pub struct Validation {
    /// The decision.
    pub verdict: Verdict,
    /// The owner of the key or session, also for a denial; empty for [`Verdict::Unknown`],
    /// [`Verdict::Malformed`] and [`Verdict::Unbound`].
    pub subject: Subject,
    /// The required scopes that the key lacks, with [`Verdict::InsufficientScope`].
    pub missing_scopes: Vec<String>,
    /// Where the answer came from and how long it may be reused.
    pub provenance: Provenance,
}

/// The origin and the freshness of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Provenance {
    /// The origin of the answer.
    pub source: Source,
    /// Time since the database was read.
    pub age: Duration,
    /// The change-log sequence number of the database that this answer reflects.
    pub revision: i64,
    /// How long the answer may be reused without another request, counted from before the request; zero: not
    /// at all.
    pub cacheable_for: Duration,
    /// As `cacheable_for`, for a client that has followed the invalidation stream without a gap since before
    /// the request; zero: no longer than `cacheable_for`.
    pub cacheable_while_watched: Duration,
}

/// The origin of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// No lookup was needed.
    NoLookup,
    /// Read from the database for this request.
    Database,
    /// From the cache of the service, within the fresh time.
    Fresh,
    /// From its cache, past the fresh time, while a reload runs (stale-while-revalidate).
    Refreshing,
    /// From its cache, past the fresh time, because the database does not respond (stale-if-error).
    Stale,
    /// From its cache: a recent lookup found nothing (negative entry).
    Negative,
    /// From the near-cache of this client: no request was sent.
    Near,
    /// A value that this client does not know.
    Unrecognized(i32),
}

impl Validation {
    /// Returns whether the request may proceed.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.verdict.is_valid()
    }

    /// Returns the owner of the key or session; `None` unless the request may proceed.
    #[must_use]
    pub fn principal(&self) -> Option<Principal> {
        self.is_valid().then(|| Principal::admitted(self.subject.clone()))
    }

    /// Returns the owner of the key or session, or why the request may not proceed.
    ///
    /// # Errors
    /// [`Denied`] for every verdict except [`Verdict::Valid`].
    pub fn into_principal(self) -> Result<Principal, Denied> {
        if self.is_valid() { Ok(Principal::admitted(self.subject)) } else { Err(Denied::new(self)) }
    }

    /// Returns the decision about a text that is too long to send as a key.
    pub(crate) fn malformed(session_id: Option<&str>) -> Self {
        let fields = SubjectFields { session_id: session_id.map(str::to_owned), ..SubjectFields::default() };
        Self { subject: Subject::new(fields), ..Self::without_subject(Verdict::Malformed) }
    }

    /// Returns a decision of which only the verdict is known.
    pub(crate) fn without_subject(verdict: Verdict) -> Self {
        let none = Duration::ZERO;
        Self {
            verdict,
            subject: Subject::default(),
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
        let fields = SubjectFields {
            tenant_id: message.tenant_id,
            tenant_name: message.tenant_name,
            plan: message.plan,
            key_id: message.key_id,
            presented_key_id: String::new(),
            scopes: message.scopes,
            // An unreadable expiry must not turn into "never expires".
            expires_at: message.expires_at.map(parse_time).transpose()?,
            session_id: None,
            attributes: BTreeMap::new(),
            networks: AnswerNetworks::parse(&message.allowed_networks, &[]),
        };
        Ok(Self {
            verdict: Verdict::from_wire(message.verdict),
            subject: Subject::new(fields),
            missing_scopes: message.missing_scopes,
            provenance: Provenance::from_wire(message.provenance.unwrap_or_default())?,
        })
    }

    pub(crate) fn from_session_response(
        session_id: String,
        message: v1::ValidateSessionResponse,
    ) -> Result<Self, Error> {
        let fields = SubjectFields {
            tenant_id: message.tenant_id,
            tenant_name: message.tenant_name,
            plan: message.plan,
            key_id: message.key_id,
            presented_key_id: message.presented_key_id,
            scopes: message.scopes,
            expires_at: message.expires_at.map(parse_time).transpose()?,
            session_id: Some(session_id),
            attributes: message.attributes.into_iter().collect(),
            networks: AnswerNetworks::parse(
                &message.allowed_networks,
                &message.presented_key_allowed_networks,
            ),
        };
        Ok(Self {
            verdict: Verdict::from_wire(message.verdict),
            subject: Subject::new(fields),
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
