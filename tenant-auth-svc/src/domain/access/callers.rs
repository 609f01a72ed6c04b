//! The known callers, and how they are identified.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::role::Roles;

/// A service that may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Name in the logs and in the audit log.
    pub name: Arc<str>,
    /// The caller's roles.
    pub roles: Roles,
}

/// SHA-256 of a caller's token. Only the caller has the token itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Returns the hash of a token.
    #[must_use]
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Parses 64 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).ok()?;
        Some(Self(hash))
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A caller with all its credentials.
#[derive(Clone, Debug)]
pub struct CallerEntry {
    /// Name: 1 to 64 characters of `a-z 0-9 . _ -`.
    pub name: String,
    /// The caller's roles.
    pub roles: Roles,
    /// Hashes of its tokens: one, or two during a token rotation.
    pub tokens: Vec<TokenHash>,
    /// DNS names in its certificate.
    pub dns: Vec<String>,
    /// URIs in its certificate, such as a SPIFFE id.
    pub uris: Vec<String>,
}

/// Why a list of callers is rejected.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidCallers {
    /// The list is empty.
    #[error("names no caller: add one")]
    Empty,
    /// The name contains characters that could corrupt a log line, or has a wrong length.
    #[error("invalid caller name {0:?}: 1 to 64 characters of a-z 0-9 . _ -")]
    InvalidName(String),
    /// Two callers have the same name.
    #[error("two callers have the name {0}")]
    DuplicateName(String),
    /// The caller has no credential, so it can never be identified.
    #[error("the caller {0} has neither a token nor a name in a certificate: add one")]
    NoCredentials(String),
    /// The caller has no role, so it may call nothing.
    #[error("the caller {0} has no role: add one")]
    NoRole(String),
    /// Two callers share a credential, so they cannot be distinguished.
    #[error("the callers {0} and {1} have the same {2}: give each its own")]
    SharedCredential(String, String, &'static str),
}

/// The known callers.
#[derive(Clone, Debug, Default)]
pub struct Callers {
    all: Vec<Arc<Caller>>,
    tokens: HashMap<TokenHash, Arc<Caller>>,
    dns: HashMap<String, Arc<Caller>>,
    uris: HashMap<String, Arc<Caller>>,
}

impl Callers {
    /// Creates the callers of a list.
    ///
    /// # Errors
    /// [`InvalidCallers`] for the first invalid entry.
    pub fn new(entries: Vec<CallerEntry>) -> Result<Self, InvalidCallers> {
        let mut callers = Self::default();
        let mut names = BTreeMap::new();
        for entry in entries {
            if !is_valid_name(&entry.name) {
                return Err(InvalidCallers::InvalidName(entry.name));
            }
            if names.insert(entry.name.clone(), ()).is_some() {
                return Err(InvalidCallers::DuplicateName(entry.name));
            }
            callers.add(entry)?;
        }
        if callers.all.is_empty() { Err(InvalidCallers::Empty) } else { Ok(callers) }
    }

    fn add(&mut self, entry: CallerEntry) -> Result<(), InvalidCallers> {
        if entry.tokens.is_empty() && entry.dns.is_empty() && entry.uris.is_empty() {
            return Err(InvalidCallers::NoCredentials(entry.name));
        }
        if entry.roles == Roles::default() {
            return Err(InvalidCallers::NoRole(entry.name));
        }
        let caller = Arc::new(Caller { name: entry.name.into(), roles: entry.roles });
        for token in entry.tokens {
            insert_unique(&mut self.tokens, token, &caller, "token")?;
        }
        for name in entry.dns {
            insert_unique(&mut self.dns, name.to_ascii_lowercase(), &caller, "DNS name")?;
        }
        for uri in entry.uris {
            insert_unique(&mut self.uris, uri, &caller, "URI")?;
        }
        self.all.push(caller);
        Ok(())
    }

    /// Returns the number of callers.
    #[must_use]
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Returns the caller with this token.
    #[must_use]
    pub fn by_token(&self, token: &str) -> Option<&Arc<Caller>> {
        self.by_token_hash(TokenHash::of(token))
    }

    /// Returns the caller whose token has this hash. Only hashes are compared, so the duration reveals
    /// nothing about a token.
    #[must_use]
    pub fn by_token_hash(&self, hash: TokenHash) -> Option<&Arc<Caller>> {
        self.tokens.get(&hash)
    }

    /// Returns the caller with these names in its certificate; `None` when the names belong to several callers.
    #[must_use]
    pub fn by_certificate_names(&self, dns: &[String], uris: &[String]) -> Option<&Arc<Caller>> {
        let by_dns = dns.iter().filter_map(|name| self.dns.get(&name.to_ascii_lowercase()));
        let mut found = by_dns.chain(uris.iter().filter_map(|uri| self.uris.get(uri)));
        let first = found.next()?;
        found.all(|other| Arc::ptr_eq(first, other)).then_some(first)
    }
}

fn insert_unique<K: Eq + std::hash::Hash>(
    table: &mut HashMap<K, Arc<Caller>>,
    key: K,
    caller: &Arc<Caller>,
    kind: &'static str,
) -> Result<(), InvalidCallers> {
    match table.insert(key, Arc::clone(caller)) {
        Some(other) if !Arc::ptr_eq(&other, caller) => {
            Err(InvalidCallers::SharedCredential(other.name.to_string(), caller.name.to_string(), kind))
        }
        _ => Ok(()),
    }
}

fn is_valid_name(text: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'.' | b'_' | b'-');
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::access::Role;

    fn entry(name: &str, token: &str, dns: &[&str]) -> CallerEntry {
        CallerEntry {
            name: name.to_owned(),
            roles: Roles::of(&[Role::Meter]),
            tokens: if token.is_empty() { Vec::new() } else { vec![TokenHash::of(token)] },
            dns: dns.iter().map(|name| (*name).to_owned()).collect(),
            uris: Vec::new(),
        }
    }

    #[test]
    fn caller_is_identified_by_token_or_certificate_name() {
        let callers = Callers::new(vec![entry("api", "one", &[]), entry("worker", "", &["Worker.internal"])]);
        let callers = callers.unwrap();
        assert_eq!(&*callers.by_token("one").unwrap().name, "api");
        assert_eq!(callers.by_token("two"), None);
        let names = ["other".to_owned(), "worker.INTERNAL".to_owned()];
        assert_eq!(&*callers.by_certificate_names(&names, &[]).unwrap().name, "worker");
        assert_eq!(callers.by_certificate_names(&names[..1], &[]), None);
    }

    #[test]
    fn certificate_of_two_callers_matches_none() {
        let callers = Callers::new(vec![entry("a", "", &["a"]), entry("b", "", &["b"])]).unwrap();
        assert_eq!(callers.by_certificate_names(&["a".to_owned(), "b".to_owned()], &[]), None);
    }

    #[test]
    fn invalid_caller_lists_are_rejected() {
        let rejected = |entries| Callers::new(entries).unwrap_err();
        assert_eq!(rejected(Vec::new()), InvalidCallers::Empty);
        assert_eq!(rejected(vec![entry("a b", "t", &[])]), InvalidCallers::InvalidName("a b".to_owned()));
        let twice = vec![entry("a", "t", &[]), entry("a", "u", &[])];
        assert_eq!(rejected(twice), InvalidCallers::DuplicateName("a".to_owned()));
        assert_eq!(rejected(vec![entry("a", "", &[])]), InvalidCallers::NoCredentials("a".to_owned()));
        let shared = vec![entry("a", "t", &[]), entry("b", "t", &[])];
        assert_eq!(
            rejected(shared),
            InvalidCallers::SharedCredential("a".to_owned(), "b".to_owned(), "token")
        );
        let idle = CallerEntry { roles: Roles::default(), ..entry("a", "t", &[]) };
        assert_eq!(rejected(vec![idle]), InvalidCallers::NoRole("a".to_owned()));
    }
}
