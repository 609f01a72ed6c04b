//! Which headers of an HTTP request hold a customer's key, for services that ask about whole requests.

use std::{fmt, sync::Arc};

use thiserror::Error;

use super::key::BorrowedKey;

/// The header whose value is a scheme and a credential.
const AUTHORIZATION: &str = "authorization";
/// The scheme of a key in that header.
const SCHEME: &[u8] = b"bearer";
/// Headers with another purpose.
const RESERVED: [&str; 12] = [
    "host",
    "connection",
    "content-length",
    "content-type",
    "transfer-encoding",
    "cookie",
    "origin",
    "access-control-request-method",
    "x-forwarded-for",
    "x-forwarded-method",
    "x-request-id",
    "grpc-timeout",
];
/// Names that start so are set by this service for the services behind a proxy.
const OWN_PREFIX: &str = "x-tenant-";

/// Why a list of headers is not accepted. The message completes the sentence "the value …".
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidKeyHeaders {
    /// A name is not the name of a header.
    #[error("must list header names in lower case, such as authorization,x-api-key, not {0:?}")]
    Name(String),
    /// A header has another purpose.
    #[error("must not list {0}, which has another purpose")]
    Reserved(String),
    /// A name is listed twice.
    #[error("must list {0} once")]
    Duplicate(String),
    /// There are none, or more than [`KeyHeaders::MAX`].
    #[error("must list 1 to {} headers", KeyHeaders::MAX)]
    Count,
}

/// The headers that may hold a key. `authorization` holds `Bearer` and the key, all others the key alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyHeaders(Arc<[Box<str>]>);

/// The credential of a request.
#[derive(Clone, Copy, Debug)]
pub enum Credential<'a> {
    /// There is none.
    Absent,
    /// There are several different ones. Choosing one would be a guess about what the upstream reads.
    Ambiguous,
    /// The value cannot be a key.
    Malformed,
    /// A key.
    Key(BorrowedKey<'a>),
}

/// The headers of a request that could hold a credential, even an empty one, by their position in [`KeyHeaders::names`]: the
/// upstream must not see them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CredentialHeaders(u8);

impl KeyHeaders {
    /// Maximum number of headers.
    pub const MAX: usize = 8;

    /// Parses names, separated by commas.
    ///
    /// # Errors
    /// [`InvalidKeyHeaders`] for the first name that is not accepted.
    pub fn parse(text: &str) -> Result<Self, InvalidKeyHeaders> {
        let mut names: Vec<Box<str>> = Vec::new();
        for name in text.split(',').map(str::trim) {
            let is_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            if name.is_empty() || !name.bytes().all(is_name) {
                return Err(InvalidKeyHeaders::Name(name.to_owned()));
            }
            if name.starts_with(OWN_PREFIX) || RESERVED.contains(&name) {
                return Err(InvalidKeyHeaders::Reserved(name.to_owned()));
            }
            if names.iter().any(|known| **known == *name) {
                return Err(InvalidKeyHeaders::Duplicate(name.to_owned()));
            }
            names.push(name.into());
        }
        if names.len() > Self::MAX { Err(InvalidKeyHeaders::Count) } else { Ok(Self(names.into())) }
    }

    /// Returns the names, in lower case.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|name| &**name)
    }

    /// Returns the names of these headers.
    pub fn carriers(&self, found: CredentialHeaders) -> impl Iterator<Item = &str> {
        self.names().enumerate().filter(move |(index, _)| found.0 & 1 << index != 0).map(|(_, name)| name)
    }

    /// Finds the credential among the headers of a request: names in any case, and values.
    ///
    /// The same credential twice is one credential. A header without a value, and another scheme than `Bearer`, is none.
    #[must_use]
    pub fn find<'a>(
        &self,
        headers: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> (Credential<'a>, CredentialHeaders) {
        let (mut found, mut carriers) = (None::<&[u8]>, CredentialHeaders::default());
        let mut is_ambiguous = false;
        for (name, value) in headers {
            let Some(index) = self.0.iter().position(|known| known.as_bytes().eq_ignore_ascii_case(name))
            else {
                continue;
            };
            let value = value.trim_ascii();
            let text = if &*self.0[index] == AUTHORIZATION {
                is_ambiguous |= joins_credentials(value);
                if mentions_bearer(value) {
                    carriers.0 |= 1 << index;
                }
                bearer_credential(value)
            } else {
                Some(value)
            };
            let Some(text) = text else { continue };
            carriers.0 |= 1 << index;
            if text.is_empty() {
                continue;
            }
            is_ambiguous |= found.is_some_and(|other| other != text);
            found = Some(text);
        }
        let credential = match found.map(std::str::from_utf8) {
            _ if is_ambiguous => Credential::Ambiguous,
            None => Credential::Absent,
            Some(Ok(key)) if key.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Credential::Key(BorrowedKey::new(key))
            }
            Some(_) => Credential::Malformed,
        };
        (credential, carriers)
    }
}

impl fmt::Display for KeyHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

/// Returns the credential of `Bearer <credential>`; HTTP ignores the case of the scheme. A tab counts as a space, because an
/// upstream may read it so.
fn bearer_credential(value: &[u8]) -> Option<&[u8]> {
    let (scheme, credential) = value.split_at_checked(SCHEME.len())?;
    let is_bearer =
        scheme.eq_ignore_ascii_case(SCHEME) && credential.first().is_none_or(u8::is_ascii_whitespace);
    is_bearer.then(|| credential.trim_ascii())
}

/// Whether a proxy has joined the values of two headers, one of them with a key: `Basic a,Bearer b`, `Bearer b,Basic a`.
fn joins_credentials(value: &[u8]) -> bool {
    let mut others = value.split(|byte| *byte == b',').skip(1).map(<[u8]>::trim_ascii);
    // No key contains a blank, so that what follows the comma is another scheme.
    let has_scheme = |other: &[u8]| other.iter().any(u8::is_ascii_whitespace);
    let is_bearer = bearer_credential(value).is_some();
    others.any(|other| bearer_credential(other).is_some() || is_bearer && has_scheme(other))
}

/// Whether an upstream might find a bearer credential anywhere in a value, such as `Basic a Bearer b`.
fn mentions_bearer(value: &[u8]) -> bool {
    let starts =
        value.windows(SCHEME.len()).enumerate().filter(|(_, window)| window.eq_ignore_ascii_case(SCHEME));
    starts.into_iter().any(|(start, _)| {
        let before = start.checked_sub(1).and_then(|index| value.get(index));
        let after = value.get(start + SCHEME.len());
        before.is_none_or(|byte| !byte.is_ascii_alphanumeric()) && after.is_none_or(u8::is_ascii_whitespace)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(headers: &[(&str, &str)]) -> (String, Vec<String>) {
        let known = KeyHeaders::parse("authorization,x-api-key").unwrap();
        let bytes = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let (credential, carriers) = known.find(bytes);
        let text = match credential {
            Credential::Absent => "absent".to_owned(),
            Credential::Ambiguous => "ambiguous".to_owned(),
            Credential::Malformed => "malformed".to_owned(),
            Credential::Key(key) => format!("key {}", key.expose()),
        };
        (text, known.carriers(carriers).map(str::to_owned).collect())
    }

    #[test]
    fn key_is_found_in_any_case_and_spelling_of_the_scheme() {
        for headers in [
            [("authorization", "Bearer k-1"), ("accept", "x")],
            [("Authorization", "bearer   k-1 "), ("x-other", "")],
            [("AUTHORIZATION", "BEARER k-1"), ("X-Other", "k-2")],
            [("authorization", "Bearer\tk-1"), ("accept", "x")],
        ] {
            assert_eq!(
                find(&headers),
                ("key k-1".to_owned(), vec!["authorization".to_owned()]),
                "{headers:?}"
            );
        }
        assert_eq!(find(&[("X-API-Key", "k-1")]).0, "key k-1");
    }

    #[test]
    fn two_different_credentials_are_ambiguous() {
        for headers in [
            [("authorization", "Bearer k-1"), ("x-api-key", "k-2")],
            [("x-api-key", "k-1"), ("x-api-key", "k-2")],
            [("authorization", "Bearer k-1"), ("authorization", "Bearer k-2")],
            [("authorization", "Bearer k-1,Bearer k-2"), ("x", "")],
            [("authorization", "Bearer k-1, bearer k-1"), ("x", "")],
            [("authorization", "Basic dTpw,Bearer k-1"), ("x", "")],
            [("authorization", "Bearer k-1,Basic dTpw"), ("x", "")],
        ] {
            assert_eq!(find(&headers).0, "ambiguous", "{headers:?}");
        }
    }

    #[test]
    fn same_credential_twice_is_one() {
        let (credential, carriers) = find(&[("authorization", "Bearer k-1"), ("x-api-key", "k-1")]);
        assert_eq!(credential, "key k-1");
        assert_eq!(carriers, ["authorization", "x-api-key"]);
    }

    #[test]
    fn other_schemes_and_empty_values_are_no_credential() {
        for value in ["Basic dTpw", "", "Bearerk-1", "k-1", "Bear"] {
            let found = find(&[("authorization", value)]);
            assert_eq!(found, ("absent".to_owned(), vec![]), "{value:?}");
        }
        for value in ["Bearer", "Bearer  "] {
            let found = find(&[("authorization", value), ("x-api-key", " ")]);
            assert_eq!(found.0, "absent", "{value:?}");
            assert_eq!(found.1, ["authorization", "x-api-key"], "an upstream does not see them either");
        }
    }

    #[test]
    fn upstream_sees_no_header_that_might_hold_a_key() {
        for value in
            ["Basic a Bearer k-1", "Basic a\tbearer\tk-1", "\"Bearer k-1\"", "x;BEARER k-1", "Bearer"]
        {
            assert_eq!(find(&[("authorization", value)]).1, ["authorization"], "{value:?}");
        }
        for value in ["Basic dTpw", "Forbearer k-1", "Bearers k-1", "Token bearerless"] {
            assert_eq!(find(&[("authorization", value)]).1, [""; 0], "{value:?}");
        }
    }

    #[test]
    fn text_that_cannot_be_a_key_is_malformed() {
        for value in ["Bearer k 1", "Bearer k\u{e9}1", "Bearer k\t1"] {
            assert_eq!(find(&[("authorization", value)]).0, "malformed", "{value:?}");
        }
    }

    #[test]
    fn header_names_are_checked() {
        let error = |text: &str| KeyHeaders::parse(text).unwrap_err();
        for name in ["", "X-Api-Key", "a b", "x_api_key", ":path"] {
            assert_eq!(error(name), InvalidKeyHeaders::Name(name.to_owned()));
        }
        assert_eq!(error("x-tenant-id"), InvalidKeyHeaders::Reserved("x-tenant-id".to_owned()));
        assert_eq!(error("cookie"), InvalidKeyHeaders::Reserved("cookie".to_owned()));
        assert_eq!(error("x-a, x-a"), InvalidKeyHeaders::Duplicate("x-a".to_owned()));
        assert_eq!(error("a,b,c,d,e,f,g,h,i"), InvalidKeyHeaders::Count);
        assert_eq!(KeyHeaders::parse(" x-a , authorization").unwrap().to_string(), "x-a,authorization");
    }
}
