//! What a key may do.

use std::fmt;

use thiserror::Error;

/// One permission, such as `orders:read`. Matched exactly: `*` has no meaning of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(Box<str>);

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
    Character,
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
            return Err(InvalidScope::Character);
        }
        Ok(Self(text.into()))
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeSet(Vec<Scope>);

impl ScopeSet {
    /// The most scopes a key may hold or a caller may require.
    pub const MAX_SCOPES: usize = 32;

    /// No scopes.
    pub const EMPTY: Self = Self(Vec::new());

    /// Collects scopes.
    ///
    /// # Errors
    /// When there are more than [`Self::MAX_SCOPES`], counted before repetitions are dropped.
    pub fn new(mut scopes: Vec<Scope>) -> Result<Self, InvalidScope> {
        if scopes.len() > Self::MAX_SCOPES {
            return Err(InvalidScope::TooMany);
        }
        scopes.sort_unstable();
        scopes.dedup();
        scopes.shrink_to_fit();
        Ok(Self(scopes))
    }

    /// The scopes, sorted.
    #[must_use]
    pub fn as_slice(&self) -> &[Scope] {
        &self.0
    }

    /// Whether a scope is among them.
    #[must_use]
    pub fn contains(&self, scope: &Scope) -> bool {
        self.0.binary_search(scope).is_ok()
    }

    /// Those of `required` that are not among these.
    #[must_use]
    pub fn missing(&self, required: &Self) -> Self {
        Self(required.0.iter().filter(|scope| !self.contains(scope)).cloned().collect())
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
    fn missing_names_exactly_what_is_not_held() {
        let held = set(&["orders:read", "orders:write"]);
        assert!(held.missing(&set(&["orders:read"])).is_empty());
        assert!(held.missing(&ScopeSet::default()).is_empty());
        assert_eq!(held.missing(&set(&["users:read", "orders:read"])), set(&["users:read"]));
    }

    #[test]
    fn a_star_is_only_a_character() {
        assert!(!set(&["orders:*"]).missing(&set(&["orders:read"])).is_empty());
    }

    #[test]
    fn sets_are_sorted_and_bounded() {
        assert_eq!(set(&["b", "a", "b"]), set(&["a", "b"]));
        let many = vec![Scope::parse("a").unwrap(); 33];
        assert_eq!(ScopeSet::new(many), Err(InvalidScope::TooMany));
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        assert_eq!(Scope::parse(""), Err(InvalidScope::Empty));
        assert_eq!(Scope::parse("Orders"), Err(InvalidScope::Character));
        assert_eq!(Scope::parse(&"a".repeat(65)), Err(InvalidScope::TooLong));
    }
}
