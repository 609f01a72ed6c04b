//! The keys that sign principal tokens.

use std::{fmt, sync::Arc};

use jsonwebtoken::{
    Algorithm, EncodingKey, Header,
    jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash},
};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use thiserror::Error;
use zeroize::Zeroizing;

use super::provider;
use crate::domain::principal_token::Claims;

/// The media type of a token, so that it cannot be taken for one of another kind (RFC 8725, section 3.11).
const TOKEN_TYPE: &str = "principal+jwt";
/// Maximum number of keys: the current one, the next, and the last.
const MAX_KEYS: usize = 8;

/// Why keys are not accepted. It never contains a key.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidSigningKeys {
    /// The text is not PEM.
    #[error("is not PEM: a block is incomplete, or not base64")]
    Pem,
    /// There are none, or too many.
    #[error("must contain 1 to {MAX_KEYS} private keys in PKCS#8 (BEGIN PRIVATE KEY)")]
    Count,
    /// A key is of another kind.
    #[error(
        "contains as block {0} neither an Ed25519 nor a P-256 key in PKCS#8 (BEGIN PRIVATE KEY): use openssl genpkey -algorithm ed25519, or -algorithm EC -pkeyopt ec_paramgen_curve:P-256"
    )]
    Kind(usize),
    /// Two keys are equal.
    #[error("contains key {0} twice")]
    Duplicate(usize),
}

/// Private keys, of which the first signs, and the public keys of all of them.
pub struct SigningKeys {
    header: Header,
    signer: EncodingKey,
    jwks: Arc<str>,
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKeys").field("kid", &self.header.kid).finish_non_exhaustive()
    }
}

impl SigningKeys {
    /// Parses PEM with one or more private keys in PKCS#8: Ed25519 (EdDSA) or P-256 (ES256).
    ///
    /// # Errors
    /// [`InvalidSigningKeys`] if a key is not accepted.
    pub fn parse(pem: &[u8]) -> Result<Self, InvalidSigningKeys> {
        provider::install();
        // All blocks: one of another kind is most likely the next key in another format.
        let keys = <(SectionKind, Vec<u8>)>::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        let keys = keys.map_err(|_| InvalidSigningKeys::Pem)?;
        if keys.len() > MAX_KEYS {
            return Err(InvalidSigningKeys::Count);
        }
        let mut signer = None;
        let mut published: Vec<Jwk> = Vec::new();
        for (index, (kind, der)) in keys.into_iter().enumerate() {
            let der = Zeroizing::new(der);
            let key = if kind == SectionKind::PrivateKey { encoding_key(&der) } else { None };
            let (algorithm, key) = key.ok_or(InvalidSigningKeys::Kind(index + 1))?;
            let jwk = public_key(algorithm, &key).ok_or(InvalidSigningKeys::Kind(index + 1))?;
            if published.contains(&jwk) {
                return Err(InvalidSigningKeys::Duplicate(index + 1));
            }
            let kid = jwk.common.key_id.clone();
            let header = || Header { typ: Some(TOKEN_TYPE.to_owned()), kid, ..Header::new(algorithm) };
            signer = signer.or_else(|| Some((header(), key)));
            published.push(jwk);
        }
        let (header, signer) = signer.ok_or(InvalidSigningKeys::Count)?;
        let jwks = serde_json::to_string(&JwkSet { keys: published }).unwrap_or_default().into();
        Ok(Self { header, signer, jwks })
    }

    /// Returns the public keys.
    pub(super) fn jwks(&self) -> Arc<str> {
        Arc::clone(&self.jwks)
    }

    /// Signs claims; `None` if that fails, which is logged: the request is then undecided.
    pub(super) fn sign(&self, claims: &Claims<'_>) -> Option<String> {
        jsonwebtoken::encode(&self.header, claims, &self.signer)
            .inspect_err(|error| tracing::error!(%error, "principal token not signed"))
            .ok()
    }
}

fn encoding_key(der: &[u8]) -> Option<(Algorithm, EncodingKey)> {
    let random = ring::rand::SystemRandom::new();
    if EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random).is_ok() {
        Some((Algorithm::ES256, EncodingKey::from_ec_der(der)))
    } else if Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).is_ok() {
        Some((Algorithm::EdDSA, EncodingKey::from_ed_der(der)))
    } else {
        None
    }
}

fn public_key(algorithm: Algorithm, key: &EncodingKey) -> Option<Jwk> {
    let mut jwk = Jwk::from_encoding_key(key, algorithm).ok()?;
    jwk.common.key_id = Some(jwk.thumbprint(ThumbprintHash::SHA256).ok()?);
    jwk.common.public_key_use = Some(PublicKeyUse::Signature);
    Some(jwk)
}
