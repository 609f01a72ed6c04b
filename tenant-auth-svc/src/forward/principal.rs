//! Signs principal tokens, each once per key, audience and fresh period.
//!
//! The claims and their lifetimes are in [`principal_token`](crate::domain::principal_token).

mod keys;
mod provider;

use std::{hash::Hash, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use quick_cache::{Equivalent, Weighter, sync::Cache};

pub use self::keys::{InvalidSigningKeys, SigningKeys};
use crate::domain::{
    clock::SharedClock,
    id::KeyId,
    key::KeyRecord,
    principal_token::Claims,
    verdict::{Decision, Revision, Source},
};

/// Memory for signed tokens, in bytes.
pub const MAX_TOKEN_BYTES: u64 = 8 * 1_024 * 1_024;
/// Memory of a token beyond its text, in bytes.
const ENTRY_OVERHEAD: u64 = 512;

/// Signs principal tokens, if the service has keys for that.
#[derive(Debug)]
pub struct PrincipalTokens(Option<Signing>);

#[derive(Debug)]
struct Signing {
    issuer: Arc<str>,
    keys: ArcSwap<SigningKeys>,
    signed: Cache<TokenKey, Arc<SignedToken>, TokenWeight>,
    fresh: Duration,
    clock: SharedClock,
}

/// What a token is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct TokenKey {
    key_id: KeyId,
    audience: Box<str>,
    is_stale: bool,
}

/// The same, borrowed. It hashes like [`TokenKey`].
#[derive(Hash)]
struct TokenKeyRef<'a> {
    key_id: &'a KeyId,
    audience: &'a str,
    is_stale: bool,
}

impl Equivalent<TokenKey> for TokenKeyRef<'_> {
    fn equivalent(&self, other: &TokenKey) -> bool {
        *self.key_id == other.key_id && *self.audience == *other.audience && self.is_stale == other.is_stale
    }
}

#[derive(Clone, Debug)]
struct TokenWeight;

impl Weighter<TokenKey, Arc<SignedToken>> for TokenWeight {
    fn weight(&self, key: &TokenKey, signed: &Arc<SignedToken>) -> u64 {
        (key.audience.len() + signed.token.len()) as u64 + ENTRY_OVERHEAD
    }
}

#[derive(Debug)]
struct SignedToken {
    token: Arc<str>,
    record: KeyRecord,
    revision: Revision,
    /// By the monotonic clock.
    signed_at: Duration,
    /// How long it is given out again.
    reusable_for: Duration,
    keys: Arc<SigningKeys>,
}

impl PrincipalTokens {
    /// Creates a signer that signs nothing.
    #[must_use]
    pub fn disabled() -> Self {
        Self(None)
    }

    /// Creates a signer with these keys. A token is given out again for `fresh`, or half of its lifetime if that is shorter.
    #[must_use]
    pub fn new(issuer: &str, keys: SigningKeys, fresh: Duration, clock: SharedClock) -> Self {
        let items = usize::try_from(MAX_TOKEN_BYTES / ENTRY_OVERHEAD).unwrap_or(usize::MAX);
        Self(Some(Signing {
            issuer: issuer.into(),
            keys: ArcSwap::from_pointee(keys),
            signed: Cache::with_weighter(items, MAX_TOKEN_BYTES, TokenWeight),
            fresh,
            clock,
        }))
    }

    /// Replaces the keys. Tokens that the old ones have signed are not given out again.
    pub fn replace_keys(&self, keys: SigningKeys) {
        if let Some(signing) = &self.0 {
            signing.keys.store(Arc::new(keys));
        }
    }

    /// Returns the issuer, and the public keys as a JSON Web Key Set; an empty set if nothing is signed.
    #[must_use]
    pub fn published(&self) -> (Arc<str>, Arc<str>) {
        match &self.0 {
            Some(signing) => (Arc::clone(&signing.issuer), signing.keys.load().jwks()),
            None => ("".into(), "{\"keys\":[]}".into()),
        }
    }

    /// Whether tokens are signed.
    pub(super) fn is_enabled(&self) -> bool {
        self.0.is_some()
    }

    /// Returns the token about a decision; `None` unless it admits, if nothing is signed, or if its key is about to expire.
    pub(super) fn token(&self, decision: &Decision, audience: &str) -> Option<Arc<str>> {
        let signing = self.0.as_ref()?;
        let keys = signing.keys.load_full();
        let record = decision.key.as_ref()?;
        let is_stale = decision.provenance.source == Source::Stale;
        let (now, monotonic) = (signing.clock.now(), signing.clock.monotonic());
        let key = TokenKeyRef { key_id: &record.key_id.unpack(), audience, is_stale };
        if let Some(signed) = signing.signed.get(&key)
            && signed.record == *record
            // A verifier that has received a later change would refuse an older token.
            && signed.revision >= decision.provenance.revision
            && monotonic.saturating_sub(signed.signed_at) < signed.reusable_for
            // Not one of keys that were replaced meanwhile.
            && Arc::ptr_eq(&signed.keys, &keys)
        {
            return Some(Arc::clone(&signed.token));
        }
        let claims = Claims::of(decision, &signing.issuer, audience, now)?;
        let token: Arc<str> = keys.sign(&claims)?.into();
        let signed = SignedToken {
            token: Arc::clone(&token),
            record: record.clone(),
            revision: decision.provenance.revision,
            signed_at: monotonic,
            reusable_for: signing.fresh.min(claims.expires_at().since(now) / 2),
            keys,
        };
        let key = TokenKey { key_id: record.key_id.unpack(), audience: audience.into(), is_stale };
        signing.signed.insert(key, Arc::new(signed));
        Some(token)
    }
}

#[cfg(test)]
mod tests;
