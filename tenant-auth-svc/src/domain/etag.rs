//! Entity tags: the version of a tenant or key that an update was based on.

use std::fmt;

use thiserror::Error;

/// The version of a tenant or key. Every change increases it, by any writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Etag(i64);

/// Why an entity tag was rejected. The message completes the sentence "the value …".
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("must be the etag of a previous response")]
pub struct InvalidEtag;

impl Etag {
    /// Creates the tag of a stored version.
    #[must_use]
    pub fn of_version(version: i64) -> Self {
        Self(version)
    }

    /// Returns the stored version.
    #[must_use]
    pub fn version(self) -> i64 {
        self.0
    }

    /// Parses the text that [`Display`](fmt::Display) writes.
    ///
    /// # Errors
    /// When it is another text.
    pub fn parse(text: &str) -> Result<Self, InvalidEtag> {
        let version = text.strip_prefix('v').and_then(|version| version.parse().ok());
        // Only the text that was written: no sign, no leading zero.
        version.map(Self).filter(|etag| etag.to_string() == text).ok_or(InvalidEtag)
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etag_round_trips_and_other_texts_are_rejected() {
        for version in [i64::MIN, -1, 0, 1, i64::MAX] {
            let etag = Etag::of_version(version);
            assert_eq!(Etag::parse(&etag.to_string()), Ok(etag));
        }
        for text in ["", "v", "1", "v+1", "v01", "V1", "v1 ", "v9223372036854775808", "\"v1\""] {
            assert_eq!(Etag::parse(text), Err(InvalidEtag), "{text}");
        }
    }
}
