//! The rules for a token.

use std::time::SystemTime;

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    jwk::{Jwk, KeyAlgorithm},
};
use serde::Deserialize;

use super::PrincipalRejected;

/// A longer text is not parsed, in bytes.
const MAX_TOKEN_LEN: usize = 4_096;
/// The media type of the tokens of this service: a token of another kind must not be taken for one.
const TOKEN_TYPE: &str = "principal+jwt";
/// Maximum lifetime of a token, in seconds.
const MAX_LIFETIME: i64 = 60;
/// How far the clock of the service may differ, in seconds.
const LEEWAY: i64 = 5;

/// The claims of a token.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    iss: String,
    /// One text: a list of audiences is not accepted.
    aud: String,
    pub(super) sub: String,
    pub(super) key_id: String,
    pub(super) scope: String,
    #[serde(default)]
    pub(super) scope_omitted: u32,
    pub(super) plan: String,
    pub(super) rev: i64,
    pub(super) iat: i64,
    pub(super) exp: i64,
}

/// The header of a token, which nobody has verified yet.
#[derive(Debug)]
pub(super) struct TokenHeader {
    algorithm: Algorithm,
    /// The id of the key that it claims to be signed with.
    pub(super) key_id: String,
}

fn invalid<T>(problem: &'static str) -> Result<T, PrincipalRejected> {
    Err(PrincipalRejected::Invalid(problem))
}

/// Returns the algorithm of a public key, if it is one that signs principal tokens.
pub(super) fn algorithm_of(key: &Jwk) -> Option<Algorithm> {
    match key.common.key_algorithm? {
        KeyAlgorithm::ES256 => Some(Algorithm::ES256),
        KeyAlgorithm::EdDSA => Some(Algorithm::EdDSA),
        _ => None,
    }
}

impl TokenHeader {
    pub(super) fn parse(token: &str) -> Result<Self, PrincipalRejected> {
        if token.len() > MAX_TOKEN_LEN {
            return invalid("it is too long");
        }
        let Ok(header) = jsonwebtoken::decode_header(token) else {
            return invalid("it is not a signed token");
        };
        if header.typ.as_deref() != Some(TOKEN_TYPE) {
            return invalid("its type is not principal+jwt");
        }
        // An extension that must be understood, and is not.
        if header.crit.is_some() {
            return invalid("it has critical headers");
        }
        match header.kid {
            Some(key_id) => Ok(Self { algorithm: header.alg, key_id }),
            None => invalid("it names no key"),
        }
    }

    /// Verifies the token with the key that the header names.
    pub(super) fn verify(
        &self,
        token: &str,
        key: &Jwk,
        (issuer, audience): (&str, &str),
        now: SystemTime,
    ) -> Result<Claims, PrincipalRejected> {
        // The key decides about the algorithm, and never the token.
        if algorithm_of(key) != Some(self.algorithm) {
            return invalid("its algorithm is not that of its key");
        }
        let Ok(decoding_key) = DecodingKey::from_jwk(key) else { return invalid("its key is unusable") };
        let mut validation = Validation::new(self.algorithm);
        // Compared below, with the time of this verifier.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let claims = match jsonwebtoken::decode::<Claims>(token, &decoding_key, &validation) {
            Ok(decoded) => decoded.claims,
            Err(error) => {
                return invalid(match error.kind() {
                    jsonwebtoken::errors::ErrorKind::InvalidSignature => "its signature is wrong",
                    _ => "its claims are not those of a principal",
                });
            }
        };
        let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        if claims.iss != issuer {
            invalid("another issuer signed it")
        } else if claims.aud != audience {
            invalid("it is for another audience")
        } else if claims.sub.is_empty() || claims.key_id.is_empty() {
            invalid("it names no tenant or no key")
        } else if claims.exp.saturating_sub(claims.iat) > MAX_LIFETIME {
            invalid("it lives too long")
        } else if claims.exp.saturating_add(LEEWAY) <= now {
            invalid("it has expired")
        } else if claims.iat > now.saturating_add(LEEWAY) {
            invalid("it is from the future")
        } else {
            Ok(claims)
        }
    }
}
