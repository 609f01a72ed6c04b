//! Which repository is the canonical one.

use std::{fs, path::Path};

use serde::Deserialize;
use thiserror::Error;

/// Where it is written down, from the top of the checkout.
pub const CANONICAL_FILE: &str = "deploy/release-guard/canonical.json";

/// The repository and the branch that releases come from.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct CanonicalRepository {
    /// Its address, in any spelling.
    pub remote: String,
    /// The branch.
    pub branch: String,
}

/// It is not known which repository is the canonical one.
#[derive(Debug, Error)]
#[error("{CANONICAL_FILE} does not say which repository is the canonical one: {0}")]
pub struct CanonicalError(String);

impl CanonicalRepository {
    /// Reads it from a checkout.
    ///
    /// # Errors
    /// [`CanonicalError`] when the file is missing or says something else.
    pub fn read(top: &Path) -> Result<Self, CanonicalError> {
        let text = fs::read_to_string(top.join(CANONICAL_FILE))
            .map_err(|error| CanonicalError(error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| CanonicalError(error.to_string()))
    }
}
