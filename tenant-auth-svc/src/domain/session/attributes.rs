//! What a caller attaches to a session.

use std::{collections::BTreeMap, fmt};

use thiserror::Error;

use crate::domain::text::{InvalidText, display};

/// What an entry needs beside its two texts, in bytes: a place in the tree, and what two pieces of memory cost. An estimate.
const ENTRY_OVERHEAD_BYTES: usize = 112;

/// Names and values that are handed back at every validation: at most 16 entries and 2 KiB together.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Attributes(BTreeMap<Box<str>, Box<str>>);

/// Why attributes were refused. The message completes the sentence "the value …".
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidAttributes {
    /// More than [`Attributes::MAX_ENTRIES`].
    #[error("must have at most {} entries", Attributes::MAX_ENTRIES)]
    TooMany,
    /// Longer than [`Attributes::MAX_BYTES`] together.
    #[error("must have at most {} bytes in all names and values together", Attributes::MAX_BYTES)]
    TooLong,
    /// A name or value that cannot be shown.
    #[error("must not have an entry whose {part} is not fit to be shown: it {problem}")]
    NotDisplayable {
        /// Name or value.
        part: &'static str,
        /// What is wrong with it; completes the sentence "it …".
        problem: InvalidText,
    },
    /// An entry without a name.
    #[error("must not have an entry without a name")]
    EmptyName,
}

impl Attributes {
    /// The most entries.
    pub const MAX_ENTRIES: usize = 16;
    /// The greatest length of all names and values together, in bytes.
    pub const MAX_BYTES: usize = 2_048;

    /// Accepts what a caller attaches.
    ///
    /// # Errors
    /// When it is too much, an entry has no name, or a name or value is not fit to be shown. A value may be empty.
    pub fn new(entries: impl IntoIterator<Item = (String, String)>) -> Result<Self, InvalidAttributes> {
        let attributes = Self::from_stored(entries)?;
        for (name, value) in attributes.iter() {
            let unfit = |part| move |problem| InvalidAttributes::NotDisplayable { part, problem };
            display::check(name).map_err(unfit("name"))?;
            if !value.is_empty() {
                display::check(value).map_err(unfit("value"))?;
            }
        }
        Ok(attributes)
    }

    /// Takes what is stored: what was accepted once can be read, whatever today's rules for texts are.
    ///
    /// # Errors
    /// When it is too much, or an entry has no name.
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

    /// About how much memory they take beyond themselves, in bytes.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.iter().map(|(name, value)| name.len() + value.len() + ENTRY_OVERHEAD_BYTES).sum()
    }

    /// The entries, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

impl fmt::Debug for Attributes {
    /// Names only: nobody knows what callers put into the values.
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
            let refused = Attributes::new(entry(name, value)).unwrap_err();
            let InvalidAttributes::NotDisplayable { part: found, .. } = &refused else {
                panic!("{refused:?}")
            };
            assert_eq!(*found, part);
            assert!(refused.to_string().contains("U+"), "{refused}");
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
