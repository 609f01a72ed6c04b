//! The published keys that verify signatures.

use std::collections::HashMap;

use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};
use serde::Deserialize;
use thiserror::Error;
use x509_parser::{prelude::FromDer as _, x509::SubjectPublicKeyInfo};

/// The published document.
#[derive(Deserialize)]
struct PublishedKeys {
    public_keys: Vec<PublishedKey>,
}

#[derive(Deserialize)]
struct PublishedKey {
    key_identifier: String,
    key: String,
}

/// Why a document of keys was refused.
#[derive(Debug, Error)]
pub enum InvalidSigningKeys {
    /// It is not a list of keys.
    #[error("not a JSON document with public_keys, each with key_identifier and key: {0}")]
    Document(#[from] serde_json::Error),
    /// None of its keys can be used.
    #[error("it has no usable key")]
    Empty,
}

/// Keys that verify signatures, by their identifier.
#[derive(Debug, Default)]
pub struct SigningKeys(HashMap<String, Box<[u8]>>);

impl SigningKeys {
    /// Parses the published document: `{"public_keys": [{"key_identifier": …, "key": PEM}]}`. A key that is not a public
    /// key in PEM is left out, and logged: the partner may add another kind.
    ///
    /// # Errors
    /// When it is invalid, or has no usable key.
    pub fn parse(document: &[u8]) -> Result<Self, InvalidSigningKeys> {
        let document: PublishedKeys = serde_json::from_slice(document)?;
        let mut keys = HashMap::new();
        for PublishedKey { key_identifier, key } in document.public_keys {
            match parse_public_key(&key) {
                Some(point) => {
                    keys.insert(key_identifier, point);
                }
                None => tracing::warn!(%key_identifier, "a published key is not a public key in PEM"),
            }
        }
        if keys.is_empty() { Err(InvalidSigningKeys::Empty) } else { Ok(Self(keys)) }
    }

    /// Returns whether there is a key with this identifier.
    #[must_use]
    pub fn contains(&self, identifier: &str) -> bool {
        self.0.contains_key(identifier)
    }

    /// Verifies an ECDSA P-256 signature with SHA-256, in ASN.1, by the key with this identifier.
    #[must_use]
    pub fn verify(&self, identifier: &str, message: &[u8], signature: &[u8]) -> bool {
        self.0.get(identifier).is_some_and(|key| {
            webpki::ring::ECDSA_P256_SHA256.verify_signature(key, message, signature).is_ok()
        })
    }
}

/// Returns the point of a public key in PEM.
fn parse_public_key(pem: &str) -> Option<Box<[u8]>> {
    let info = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, info) = SubjectPublicKeyInfo::from_der(&info).ok()?;
    Some(info.subject_public_key.data.into_owned().into_boxed_slice())
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, SigningKey as _};
    use serde_json::json;

    use super::*;

    fn published(keys: &[(&str, &KeyPair)]) -> Vec<u8> {
        let key = |(id, key): &(&str, &KeyPair)| json!({ "key_identifier": id, "key": key.public_key_pem() });
        json!({ "public_keys": keys.iter().map(key).collect::<Vec<_>>() }).to_string().into_bytes()
    }

    #[test]
    fn signature_is_verified_by_the_named_key_only() {
        let [first, second] = [(); 2].map(|()| KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap());
        let keys = SigningKeys::parse(&published(&[("first", &first), ("second", &second)])).unwrap();
        let signature = first.sign(b"body").unwrap();
        assert!(keys.verify("first", b"body", &signature));
        assert!(!keys.verify("first", b"another body", &signature));
        assert!(!keys.verify("second", b"body", &signature));
        assert!(!keys.verify("third", b"body", &signature));
        for length in 0..signature.len() {
            assert!(!keys.verify("first", b"body", &signature[..length]));
        }
    }

    #[test]
    fn key_of_another_curve_verifies_nothing() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let keys = SigningKeys::parse(&published(&[("key", &key)])).unwrap();
        assert!(!keys.verify("key", b"body", &key.sign(b"body").unwrap()));
    }

    #[test]
    fn unusable_key_is_left_out() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let usable = published(&[("usable", &key)]);
        let mut document: serde_json::Value = serde_json::from_slice(&usable).unwrap();
        let another_kind = json!({ "key_identifier": "other", "key": "another kind" });
        document["public_keys"].as_array_mut().unwrap().insert(0, another_kind);
        let keys = SigningKeys::parse(document.to_string().as_bytes()).unwrap();
        assert!(keys.verify("usable", b"body", &key.sign(b"body").unwrap()));
        assert!(!keys.contains("other"));
    }

    #[test]
    fn invalid_documents_are_refused() {
        for document in
            ["", "[]", "{}", r#"{"public_keys":[]}"#, r#"{"public_keys":[{"key_identifier":"a","key":"x"}]}"#]
        {
            assert!(SigningKeys::parse(document.as_bytes()).is_err(), "{document}");
        }
    }
}
