//! The permissions of a key.

use std::fmt;

use compact_str::CompactString;
use thiserror::Error;

/// A permission, such as `orders:read`. It is matched exactly: `*` is an ordinary character.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(CompactString);

/// Why a text is not a valid scope. The message completes the sentence "the value …".
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidScope {
    /// It is empty.
    #[error("must not be empty")]
    Empty,
    /// It is longer than [`Scope::MAX_LEN`].
    #[error("must have at most {} characters", Scope::MAX_LEN)]
    TooLong,
    /// It contains a character that is not allowed.
    #[error("may hold only a-z 0-9 : . _ - / and *")]
    InvalidCharacter,
    /// There are more scopes than [`ScopeSet::MAX_SCOPES`].
    #[error("must list at most {} scopes", ScopeSet::MAX_SCOPES)]
    TooMany,
}

impl Scope {
    /// Maximum length of a scope, in bytes.
    pub const MAX_LEN: usize = 64;

    /// Parses 1 to 64 characters of `a-z 0-9 : . _ - / *`.
    ///
    /// # Errors
    /// When it is empty, too long, or contains another character.
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

    /// Returns the scope as text.
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

/// A set of scopes, sorted and without duplicates.
///
/// It is stored as one text with a space between two scopes; no scope contains a space. A set is small and is
/// read sequentially, and takes one heap allocation, or none while it is short.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScopeSet(CompactString);

const SEPARATOR: char = ' ';

impl ScopeSet {
    /// Returns the first scopes that fit into `max_len` bytes, with a space between two, and the number of the others.
    #[must_use]
    pub fn leading(&self, max_len: usize) -> (&str, usize) {
        if self.0.len() <= max_len {
            return (&self.0, 0);
        }
        // One more byte, so that a scope that ends at the limit counts.
        let head = self.0.get(..=max_len).unwrap_or(&self.0);
        let end = head.rfind(SEPARATOR).unwrap_or(0);
        let (kept, rest) = self.0.split_at(end);
        (kept, rest.split_ascii_whitespace().count())
    }

    /// Returns the memory that the set takes, in bytes, including everything it owns.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        size_of::<Self>() + if self.0.is_heap_allocated() { self.0.capacity() } else { 0 }
    }
}

impl Default for ScopeSet {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl ScopeSet {
    /// Maximum number of scopes that a key may have or a caller may require.
    pub const MAX_SCOPES: usize = 32;

    /// The empty set.
    pub const EMPTY: Self = Self(CompactString::const_new(""));

    /// Creates a set.
    ///
    /// # Errors
    /// When there are more than [`Self::MAX_SCOPES`], counted before duplicates are removed.
    pub fn new(scopes: Vec<Scope>) -> Result<Self, InvalidScope> {
        if scopes.len() > Self::MAX_SCOPES {
            return Err(InvalidScope::TooMany);
        }
        let mut names: Vec<_> = scopes.iter().map(Scope::as_str).collect();
        Ok(Self::from_names(&mut names))
    }

    /// Creates a set from names, and sorts `names`.
    ///
    /// # Errors
    /// When a name is not a valid scope, or there are more than [`Self::MAX_SCOPES`], counted before
    /// duplicates are removed.
    pub fn parse(names: &mut [&str]) -> Result<Self, InvalidScope> {
        if names.len() > Self::MAX_SCOPES {
            return Err(InvalidScope::TooMany);
        }
        names.iter().try_for_each(|name| Scope::check(name))?;
        Ok(Self::from_names(names))
    }

    fn from_names(names: &mut [&str]) -> Self {
        names.sort_unstable();
        let repeated = |index: usize| index > 0 && names.get(index - 1) == names.get(index);
        let once = names.iter().enumerate().filter(|(index, _)| !repeated(*index));
        Self::join_sorted(once.map(|(_, name)| *name))
    }

    /// Joins sorted scopes.
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

    /// Returns the scopes, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &str> + Clone {
        // There is no other white space in the text, and this is several times as fast as splitting at a
        // character.
        self.0.split_ascii_whitespace()
    }

    /// Whether the set contains a scope.
    #[must_use]
    pub fn contains(&self, scope: &str) -> bool {
        self.iter().any(|held| held == scope)
    }

    /// Whether the set contains all of `required`.
    #[must_use]
    pub fn contains_all(&self, required: &Self) -> bool {
        required.iter().all(|scope| self.contains(scope))
    }

    /// Returns the scopes of `required` that are not in the set.
    #[must_use]
    pub fn missing(&self, required: &Self) -> Self {
        Self::join_sorted(required.iter().filter(|scope| !self.contains(scope)))
    }

    /// Whether the set is empty.
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

    #[test]
    fn leading_scopes_are_whole_and_the_others_counted() {
        let set = set(&["a:read", "b:write", "c"]);
        assert_eq!(set.leading(100), ("a:read b:write c", 0));
        assert_eq!(set.leading(16), ("a:read b:write c", 0));
        assert_eq!(set.leading(15), ("a:read b:write", 1));
        assert_eq!(set.leading(14), ("a:read b:write", 1));
        assert_eq!(set.leading(13), ("a:read", 2));
        assert_eq!(set.leading(5), ("", 3));
        assert_eq!(ScopeSet::EMPTY.leading(0), ("", 0));
    }
}
