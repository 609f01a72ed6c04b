//! The canonical repository, from which releases are made.

use std::{fs, path::Path};

use serde::Deserialize;
use thiserror::Error;

/// Path of its configuration file, relative to the top of the checkout.
pub const CANONICAL_FILE: &str = "deploy/release-guard/canonical.json";

/// The repository and the branch that releases come from.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct CanonicalRepository {
    /// Address of the repository, in any spelling.
    pub remote: String,
    /// The branch.
    pub branch: String,
}

/// The canonical repository cannot be determined.
#[derive(Debug, Error)]
#[error("{CANONICAL_FILE} does not name the canonical repository: {0}")]
pub struct CanonicalError(String);

impl CanonicalRepository {
    /// Reads the configuration file of a checkout.
    ///
    /// # Errors
    /// [`CanonicalError`] when the file is missing or invalid.
    pub fn read(top: &Path) -> Result<Self, CanonicalError> {
        let text = fs::read_to_string(top.join(CANONICAL_FILE))
            .map_err(|error| CanonicalError(error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| CanonicalError(error.to_string()))
    }
}
