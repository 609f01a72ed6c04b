//! Handles: state of a server, named in the arguments of tools, of revisions without sessions.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use thiserror::Error;

use crate::{
    BindSession, Client, Denied, Error, NotAdmitted, PresentedKey, Principal, Verdict,
    options::{self, setup_error},
};

/// Session ids with this prefix are handles: a client cannot present one as a session.
pub(super) const HANDLE_PREFIX: &str = "mcp-handle:";
/// The attribute of the binding that contains the kind.
const KIND_ATTRIBUTE: &str = "kind";
const RANDOM_LEN: usize = 32;
/// The length of the random part in base64url.
const ENCODED_LEN: usize = 43;
const MAX_KIND_LEN: usize = 64;
const DEFAULT_TTL: Duration = Duration::from_secs(3_600);
/// The contract's minimum for sessions with a sliding expiry.
pub(super) const MIN_TTL: Duration = Duration::from_secs(60);

/// Issues and checks handles, such as `cart_…`: names of state of an MCP server, bound to the tenant of the key that minted
/// them. Clones share the client.
///
/// A handle authenticates nobody: each request needs a key, and only keys of its tenant may use it.
#[derive(Clone, Debug)]
pub struct McpHandles {
    client: Client,
    ttl: Duration,
}

/// The reason why a handle may not be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandleError {
    /// There is no such handle for this key: it has ended, belongs to another tenant, is of another kind, is malformed, or was
    /// never minted. Tools answer with the error -32602 of JSON-RPC and this text.
    #[error("unknown handle")]
    Unknown,
    /// The key may not be used now.
    #[error(transparent)]
    Denied(Denied),
    /// Nothing was decided, or the principal or the kind cannot be used. It never means that the handle is unknown.
    #[error(transparent)]
    Undecided(#[from] Error),
}

impl McpHandles {
    /// Creates an issuer of handles that end an hour after their last use.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, ttl: DEFAULT_TTL }
    }

    /// Sets how long after its last use a handle ends: 60 s to 24 h.
    ///
    /// # Errors
    /// [`Error::Setup`] for another time.
    pub fn ttl(self, ttl: Duration) -> Result<Self, Error> {
        Ok(Self { ttl: check_ttl("McpHandles::ttl", ttl)?, ..self })
    }

    /// Mints a handle of a kind (1 to 64 characters of `a-z 0-9 _ -`) for the tenant of a principal.
    ///
    /// # Errors
    /// [`HandleError::Denied`] if the key may no longer be used; [`HandleError::Undecided`] if nothing was decided, the kind is
    /// invalid, or the principal has no key.
    pub async fn mint(&self, principal: &Principal, kind: &str) -> Result<String, HandleError> {
        if !is_kind(kind) {
            return Err(setup_error(format!(
                "kind: invalid kind {kind:?}: must be 1 to 64 characters of a-z 0-9 _ -"
            ))
            .into());
        }
        let (client, key) = self.credentials(principal)?;
        let mut random = [0; RANDOM_LEN];
        getrandom::fill(&mut random)
            .map_err(|_| setup_error("the random generator of this machine failed".to_owned()))?;
        let handle = format!("{kind}_{}", BASE64_URL_SAFE_NO_PAD.encode(random));
        let session =
            BindSession::new(session_id(&handle), self.ttl).sliding().attribute(KIND_ATTRIBUTE, kind);
        let verdict = client.bind_session(session, key).await?.verdict;
        if verdict.is_valid() {
            return Ok(handle);
        }
        Err(HandleError::Denied(Denied::new(crate::Validation::without_subject(verdict))))
    }

    /// Checks that a handle is one of this kind, and of the tenant of the principal.
    ///
    /// # Errors
    /// [`HandleError::Unknown`] if it is not; the others as for [`Self::mint`].
    pub async fn require(&self, principal: &Principal, handle: &str, kind: &str) -> Result<(), HandleError> {
        if !is_handle(handle, kind) {
            return Err(HandleError::Unknown);
        }
        let (client, key) = self.credentials(principal)?;
        let session = match client.require_session(&session_id(handle), Some(key), &[]).await {
            Ok(session) => session,
            Err(NotAdmitted::Denied(denied)) if denies_the_key(denied.verdict()) => {
                return Err(HandleError::Denied(denied));
            }
            Err(NotAdmitted::Denied(_)) => return Err(HandleError::Unknown),
            Err(NotAdmitted::Undecided(error)) => return Err(error.into()),
        };
        let is_of_kind = session.attributes().get(KIND_ATTRIBUTE).is_some_and(|bound| bound == kind);
        if is_of_kind && session.tenant_id() == principal.tenant_id() {
            Ok(())
        } else {
            Err(HandleError::Unknown)
        }
    }

    /// Ends a handle of the tenant of the principal. Idempotent: returns whether the handle existed until now.
    ///
    /// # Errors
    /// [`HandleError::Undecided`] if the service did not respond.
    pub async fn release(
        &self,
        principal: &Principal,
        handle: &str,
        kind: &str,
    ) -> Result<bool, HandleError> {
        match self.require(principal, handle, kind).await {
            Ok(()) => {
                let unbinding =
                    self.client.unbind_session(&session_id(handle), principal.tenant_id()).await?;
                Ok(unbinding.was_bound)
            }
            Err(HandleError::Unknown) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn credentials<'a>(&self, principal: &'a Principal) -> Result<(Client, &'a PresentedKey), Error> {
        let credentials = principal.credentials();
        let found = credentials.and_then(|all| Some((all.client_address, all.key()?)));
        let (address, key) = found.ok_or_else(|| {
            setup_error(
                "principal: it has no key: take it from a layer, or from require_guardable".to_owned(),
            )
        })?;
        Ok((self.client.with_client_address(address), key))
    }
}

/// # Errors
/// [`Error::Setup`] for less than 60 s, or more than 24 h.
pub(super) fn check_ttl(name: &str, ttl: Duration) -> Result<Duration, Error> {
    if ttl < MIN_TTL {
        return Err(setup_error(format!("{name}: invalid duration {ttl:?}: must be 60 s to 24 h")));
    }
    options::check_duration(name, ttl)
}

fn session_id(handle: &str) -> String {
    format!("{HANDLE_PREFIX}{handle}")
}

fn is_kind(kind: &str) -> bool {
    let is_allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
    (1..=MAX_KIND_LEN).contains(&kind.len()) && kind.bytes().all(is_allowed)
}

fn is_handle(handle: &str, kind: &str) -> bool {
    let random = handle.strip_prefix(kind).and_then(|rest| rest.strip_prefix('_'));
    let is_encoded = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    is_kind(kind)
        && random.is_some_and(|random| random.len() == ENCODED_LEN && random.bytes().all(is_encoded))
}

/// Returns whether a verdict is about the key or its tenant at present, rather than about the handle.
fn denies_the_key(verdict: Verdict) -> bool {
    matches!(
        verdict,
        Verdict::Disabled
            | Verdict::TenantSuspended
            | Verdict::AddressRequired
            | Verdict::AddressNotAllowed
            | Verdict::QuotaExceeded
            | Verdict::RateLimited
            | Verdict::Unrecognized(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_handles_are_recognized_without_a_call() {
        let random = "A".repeat(ENCODED_LEN);
        assert!(is_handle(&format!("cart_{random}"), "cart"));
        assert!(is_handle(&format!("my_cart_{random}"), "my_cart"));
        for handle in [
            String::new(),
            "cart".to_owned(),
            "cart_".to_owned(),
            random.clone(),
            format!("cart_{random}A"),
            format!("cart{random}"),
            format!("order_{random}"),
            format!("cart_{}/", &random[1..]),
            format!("mcp-handle:cart_{random}"),
        ] {
            assert!(!is_handle(&handle, "cart"), "{handle}");
        }
        assert!(!is_handle(&format!("_{random}"), "") && !is_kind("Cart") && !is_kind(&"a".repeat(65)));
    }
}
