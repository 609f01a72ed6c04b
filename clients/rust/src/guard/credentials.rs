//! What a guard needs to validate a principal again.

use std::{fmt, time::Duration, time::SystemTime};

use crate::{Client, ClientAddress, Denied, Error, PresentedKey, Subject, Validation, near::ChangeSubject};

/// The key, the session, or both, with which a principal was admitted. Secret: a principal keeps it privately.
pub(crate) struct Credentials {
    pub(crate) admission: Admission,
    pub(crate) required_scopes: Vec<String>,
    pub(crate) client_address: Option<ClientAddress>,
}

/// What admitted the principal.
pub(crate) enum Admission {
    /// A key, which must hold the scopes.
    Key(PresentedKey),
    /// A session, with the key presented beside it, if any. The key that opened the session must hold the scopes.
    Session(String, Option<PresentedKey>),
    /// A key, which must hold the scopes, and a session of its tenant.
    #[cfg(feature = "mcp")]
    KeyWithSession(PresentedKey, SessionOfTenant),
}

/// A session that any key of its tenant may continue.
#[cfg(feature = "mcp")]
pub(crate) struct SessionOfTenant {
    pub(crate) session_id: String,
    /// The public id of the key that opened it: with that key, it ends.
    pub(crate) opened_by: String,
}

/// An answer that admits.
pub(super) struct StillValid {
    /// When the key or the session expires, whichever is first.
    pub(super) expires_at: Option<SystemTime>,
    /// For how long the answer may be used without the invalidation stream.
    pub(super) fresh_for: Duration,
    /// Whether the invalidation stream announces every change that the answer may lack.
    pub(super) is_covered: bool,
}

impl Credentials {
    /// Returns the key that was presented, if any.
    #[cfg(feature = "mcp")]
    pub(crate) fn key(&self) -> Option<&PresentedKey> {
        match &self.admission {
            Admission::Key(key) | Admission::KeyWithSession(key, _) => Some(key),
            Admission::Session(_, key) => key.as_ref(),
        }
    }

    /// Returns the subjects whose changes concern a principal with these credentials.
    pub(super) fn subjects(&self, principal: &Subject) -> Vec<ChangeSubject> {
        let (session_id, opened_by) = match &self.admission {
            Admission::Key(_) => (None, ""),
            Admission::Session(id, _) => (Some(id), ""),
            #[cfg(feature = "mcp")]
            Admission::KeyWithSession(_, session) => (Some(&session.session_id), session.opened_by.as_str()),
        };
        let keys = [principal.key_id(), principal.presented_key_id(), opened_by];
        let keys = keys.into_iter().filter(|id| !id.is_empty()).map(|id| ChangeSubject::Key(id.to_owned()));
        let mut subjects: Vec<_> = keys.collect();
        subjects.push(ChangeSubject::Tenant(principal.tenant_id().to_owned()));
        subjects.extend(session_id.cloned().map(ChangeSubject::Session));
        subjects
    }

    /// Validates again, through the near-cache.
    ///
    /// # Errors
    /// If nothing could be decided, or the answer is older than a change that the stream has announced.
    pub(super) async fn validate(&self, client: &Client) -> Result<Result<StillValid, Denied>, Error> {
        let client = client.with_client_address(self.client_address);
        let scopes: Vec<_> = self.required_scopes.iter().map(String::as_str).collect();
        match &self.admission {
            Admission::Key(key) => still_valid(&client, client.validate(key, &scopes).await?),
            Admission::Session(id, key) => {
                still_valid(&client, client.validate_session(id, key.as_ref(), &scopes).await?)
            }
            #[cfg(feature = "mcp")]
            Admission::KeyWithSession(key, session) => {
                let of_key = match still_valid(&client, client.validate(key, &scopes).await?)? {
                    Ok(of_key) => of_key,
                    Err(denied) => return Ok(Err(denied)),
                };
                let of_session = still_valid(
                    &client,
                    client.validate_session(&session.session_id, Some(key), &[]).await?,
                )?;
                Ok(of_session.map(|of_session| of_key.and(of_session)))
            }
        }
    }
}

impl StillValid {
    #[cfg(feature = "mcp")]
    fn and(self, other: Self) -> Self {
        Self {
            expires_at: self.expires_at.into_iter().chain(other.expires_at).min(),
            fresh_for: self.fresh_for.min(other.fresh_for),
            is_covered: self.is_covered && other.is_covered,
        }
    }
}

fn still_valid(client: &Client, validation: Validation) -> Result<Result<StillValid, Denied>, Error> {
    let provenance = validation.provenance;
    let is_covered = match client.cache().map(|handle| handle.cache()) {
        Some(cache) if cache.is_outdated(&validation) => {
            // A replica that has not applied the change yet.
            let message = "the answer is older than an announced change".to_owned();
            return Err(Error::Unavailable { message, reason: None, retry_after: None });
        }
        Some(cache) => cache.is_covered(&validation),
        None => false,
    };
    Ok(validation.into_principal().map(|principal| StillValid {
        expires_at: principal.expires_at(),
        fresh_for: provenance.cacheable_for,
        is_covered,
    }))
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials([redacted])")
    }
}
