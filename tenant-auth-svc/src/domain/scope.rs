//! What a key may do.

use std::fmt;

use compact_str::CompactString;
use thiserror::Error;

/// One permission, such as `orders:read`. Matched exactly: `*` has no meaning of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(CompactString);

/// Why a text is no scope. The message completes the sentence "the value …".
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidScope {
    /// Nothing was given.
    #[error("must not be empty")]
    Empty,
    /// Longer than [`Scope::MAX_LEN`].
    #[error("must have at most {} characters", Scope::MAX_LEN)]
    TooLong,
    /// A character outside the allowed ones.
    #[error("may hold only a-z 0-9 : . _ - / and *")]
    InvalidCharacter,
    /// More scopes than [`ScopeSet::MAX_SCOPES`].
    #[error("must list at most {} scopes", ScopeSet::MAX_SCOPES)]
    TooMany,
}

impl Scope {
    /// The longest scope, in bytes.
    pub const MAX_LEN: usize = 64;

    /// Accepts 1 to 64 characters of `a-z 0-9 : . _ - / *`.
    ///
    /// # Errors
    /// When it is empty, too long, or holds another character.
    pub fn parse(text: &str) -> Result<Self, InvalidScope> {
        Self::check(text).map(|()| Self(text.into()))
    }

    fn check(text: &str) -> Result<(), InvalidScope> {
        if text.is_empty() {
            return Err(InvalidScope::Empty);
        }
        if text.len() > Self::MAX_LEN {
            return Err(InvalidScope::TooLong);
        }
        let allowed = |b: u8| {
            b.is_ascii_lowercase()
                || b.is_ascii_digit()
                || matches!(b, b':' | b'.' | b'_' | b'-' | b'/' | b'*')
        };
        if !text.bytes().all(allowed) {
            return Err(InvalidScope::InvalidCharacter);
        }
        Ok(())
    }

    /// The scope as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Scopes, sorted and without repetition.
///
/// They are one text, with a space between two of them, which no scope holds: a set is small, is read from its beginning to
/// its end, and takes one piece of memory, or none of its own while it is short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeSet(CompactString);

const SEPARATOR: char = ' ';

impl ScopeSet {
    /// How long they are together, in bytes.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.0.len()
    }
}

impl Default for ScopeSet {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl ScopeSet {
    /// The most scopes a key may hold or a caller may require.
    pub const MAX_SCOPES: usize = 32;

    /// No scopes.
    pub const EMPTY: Self = Self(CompactString::const_new(""));

    /// Collects scopes.
    ///
    /// # Errors
    /// When there are more than [`Self::MAX_SCOPES`], counted before repetitions are dropped.
    pub fn new(scopes: Vec<Scope>) -> Result<Self, InvalidScope> {
        if scopes.len() > Self::MAX_SCOPES {
            return Err(InvalidScope::TooMany);
        }
        let mut names: Vec<_> = scopes.iter().map(Scope::as_str).collect();
        Ok(Self::from_names(&mut names))
    }

    /// Collects scopes by their names, which are left sorted.
    ///
    /// # Errors
    /// When one of them is no scope, or there are more than [`Self::MAX_SCOPES`], counted before repetitions are dropped.
    pub fn parse(names: &mut [&str]) -> Result<Self, InvalidScope> {
        if names.len() > Self::MAX_SCOPES {
            return Err(InvalidScope::TooMany);
        }
        names.iter().try_for_each(|name| Scope::check(name))?;
        Ok(Self::from_names(names))
    }

    fn from_names(names: &mut [&str]) -> Self {
        names.sort_unstable();
        let repeated = |place: usize| place > 0 && names.get(place - 1) == names.get(place);
        let once = names.iter().enumerate().filter(|(place, _)| !repeated(*place));
        Self::join_sorted(once.map(|(_, name)| *name))
    }

    /// Joins scopes that are sorted already.
    fn join_sorted<'a>(scopes: impl Iterator<Item = &'a str> + Clone) -> Self {
        let len = scopes.clone().map(|scope| scope.len() + 1).sum::<usize>();
        let mut all = CompactString::with_capacity(len.saturating_sub(1));
        for scope in scopes {
            if !all.is_empty() {
                all.push(SEPARATOR);
            }
            all.push_str(scope);
        }
        Self(all)
    }

    /// The scopes, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &str> + Clone {
        // No other white space is in it, and this is several times as fast as looking for a character.
        self.0.split_ascii_whitespace()
    }

    /// Whether a scope is among them.
    #[must_use]
    pub fn contains(&self, scope: &str) -> bool {
        self.iter().any(|held| held == scope)
    }

    /// Whether all of `required` are among these.
    #[must_use]
    pub fn contains_all(&self, required: &Self) -> bool {
        required.iter().all(|scope| self.contains(scope))
    }

    /// Those of `required` that are not among these.
    #[must_use]
    pub fn missing(&self, required: &Self) -> Self {
        Self::join_sorted(required.iter().filter(|scope| !self.contains(scope)))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(scopes: &[&str]) -> ScopeSet {
        ScopeSet::new(scopes.iter().map(|s| Scope::parse(s).unwrap()).collect()).unwrap()
    }

    #[test]
    fn missing_lists_required_scopes_not_held() {
        let held = set(&["orders:read", "orders:write"]);
        assert!(held.missing(&set(&["orders:read"])).is_empty());
        assert!(held.missing(&ScopeSet::default()).is_empty());
        assert_eq!(held.missing(&set(&["users:read", "orders:read"])), set(&["users:read"]));
    }

    #[test]
    fn scope_prefix_does_not_match() {
        let held = set(&["orders:read", "orders:write"]);
        for other in ["orders", "orders:", "read", "orders:read orders:write", ""] {
            assert!(!held.contains(other), "{other}");
        }
        assert!(
            held.contains_all(&set(&["orders:write"]))
                && !held.contains_all(&set(&["orders:write", "orders"]))
        );
    }

    #[test]
    fn star_matches_literally() {
        assert!(!set(&["orders:*"]).missing(&set(&["orders:read"])).is_empty());
    }

    #[test]
    fn scope_sets_are_sorted_and_bounded() {
        assert_eq!(set(&["b", "a", "b"]), set(&["a", "b"]));
        assert!(set(&["b", "a", "b"]).iter().eq(["a", "b"]));
        assert_eq!(ScopeSet::parse(&mut ["b", "a", "b"]), Ok(set(&["a", "b"])));
        assert_eq!(ScopeSet::parse(&mut []), Ok(ScopeSet::EMPTY));
        assert_eq!(ScopeSet::parse(&mut ["a", "B"]), Err(InvalidScope::InvalidCharacter));
        assert_eq!(ScopeSet::parse(&mut ["a"; 33]), Err(InvalidScope::TooMany));
        assert!(ScopeSet::EMPTY.is_empty() && ScopeSet::EMPTY.iter().next().is_none());
        let many = vec![Scope::parse("a").unwrap(); 33];
        assert_eq!(ScopeSet::new(many), Err(InvalidScope::TooMany));
    }

    #[test]
    fn invalid_scopes_are_rejected_with_reason() {
        assert_eq!(Scope::parse(""), Err(InvalidScope::Empty));
        assert_eq!(Scope::parse("Orders"), Err(InvalidScope::InvalidCharacter));
        assert_eq!(Scope::parse(&"a".repeat(65)), Err(InvalidScope::TooLong));
    }
}
