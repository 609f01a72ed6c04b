//! Attributes that a caller attaches to a session.

use std::{collections::BTreeMap, fmt};

use thiserror::Error;

use crate::domain::text::{InvalidText, display};

/// Estimated overhead of an entry in addition to its texts, in bytes: a node of the tree, and two
/// allocations.
const ENTRY_OVERHEAD_BYTES: usize = 112;

/// Names and values that each validation returns: at most 16 entries, and 2 KiB in total.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Attributes(BTreeMap<Box<str>, Box<str>>);

/// Why attributes were rejected. The message completes the sentence "the value …".
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidAttributes {
    /// There are more than [`Attributes::MAX_ENTRIES`].
    #[error("must have at most {} entries", Attributes::MAX_ENTRIES)]
    TooMany,
    /// They are longer than [`Attributes::MAX_BYTES`] in total.
    #[error("must have at most {} bytes in all names and values together", Attributes::MAX_BYTES)]
    TooLong,
    /// A name or value cannot be displayed.
    #[error("must not have an entry whose {part} cannot be displayed: it {problem}")]
    NotDisplayable {
        /// `name` or `value`.
        part: &'static str,
        /// The problem, which completes the sentence "it …".
        problem: InvalidText,
    },
    /// An entry has no name.
    #[error("must not have an entry without a name")]
    EmptyName,
}

impl Attributes {
    /// Maximum number of entries.
    pub const MAX_ENTRIES: usize = 16;
    /// Maximum length of all names and values together, in bytes.
    pub const MAX_BYTES: usize = 2_048;

    /// Accepts the attributes from a caller.
    ///
    /// # Errors
    /// When they are too many or too long, an entry has no name, or a name or value cannot be displayed. A
    /// value may be empty.
    pub fn new(entries: impl IntoIterator<Item = (String, String)>) -> Result<Self, InvalidAttributes> {
        let attributes = Self::from_stored(entries)?;
        for (name, value) in attributes.iter() {
            let not_displayable = |part| move |problem| InvalidAttributes::NotDisplayable { part, problem };
            display::check(name).map_err(not_displayable("name"))?;
            if !value.is_empty() {
                display::check(value).map_err(not_displayable("value"))?;
            }
        }
        Ok(attributes)
    }

    /// Accepts stored attributes: attributes that were accepted once stay readable, even if the rules for
    /// texts have changed.
    ///
    /// # Errors
    /// When they are too many or too long, or an entry has no name.
    pub fn from_stored(
        entries: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, InvalidAttributes> {
        let entries: BTreeMap<Box<str>, Box<str>> =
            entries.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        if entries.len() > Self::MAX_ENTRIES {
            return Err(InvalidAttributes::TooMany);
        }
        if entries.keys().any(|name| name.is_empty()) {
            return Err(InvalidAttributes::EmptyName);
        }
        if entries.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > Self::MAX_BYTES {
            return Err(InvalidAttributes::TooLong);
        }
        Ok(Self(entries))
    }

    /// Returns the approximate memory that they take on the heap, in bytes.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.iter().map(|(name, value)| name.len() + value.len() + ENTRY_OVERHEAD_BYTES).sum()
    }

    /// Returns the entries, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

impl fmt::Debug for Attributes {
    /// Shows names only: values may contain confidential data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(count: usize, len: usize) -> impl Iterator<Item = (String, String)> {
        (0..count).map(move |number| (format!("{number:04}"), "v".repeat(len)))
    }

    #[test]
    fn attribute_limits_are_enforced() {
        assert_eq!(Attributes::new(entries(17, 0)), Err(InvalidAttributes::TooMany));
        assert_eq!(Attributes::new(entries(16, 125)), Err(InvalidAttributes::TooLong));
        assert!(Attributes::new(entries(16, 124)).is_ok(), "16 × 128 bytes");
        let unnamed = [(String::new(), "x".to_owned())];
        assert_eq!(Attributes::new(unnamed), Err(InvalidAttributes::EmptyName));
    }

    #[test]
    fn display_rules_apply_to_new_attributes_only() {
        let entry = |name: &str, value: &str| [(name.to_owned(), value.to_owned())];
        for (name, value, part) in
            [("a\u{202e}", "x", "name"), ("a", "two\nlines", "value"), ("a", " ", "value")]
        {
            let rejected = Attributes::new(entry(name, value)).unwrap_err();
            let InvalidAttributes::NotDisplayable { part: found, .. } = &rejected else {
                panic!("{rejected:?}")
            };
            assert_eq!(*found, part);
            assert!(rejected.to_string().contains("U+"), "{rejected}");
            assert!(Attributes::from_stored(entry(name, value)).is_ok());
        }
        assert!(Attributes::new(entry("client", "")).is_ok());
    }

    #[test]
    fn debug_hides_attribute_values() {
        let attributes = Attributes::new([("user".to_owned(), "alice".to_owned())]).unwrap();
        assert_eq!(format!("{attributes:?}"), r#"{"user"}"#);
    }
}
