//! Why a principal token is refused.

use thiserror::Error;

use crate::Error;

/// Why a principal token is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PrincipalRejected {
    /// It is not a valid token for this audience, or has expired.
    #[error("invalid principal token: {0}")]
    Invalid(
        /// What is wrong with it.
        &'static str,
    ),
    /// Its key lacks required scopes.
    #[error("the key lacks {}", .0.join(", "))]
    MissingScopes(
        /// The scopes.
        Vec<String>,
    ),
    /// Its key or tenant has changed since it was signed: revoked, or only renamed. Repeat the request through the proxy, which
    /// asks the service again.
    #[error("the key or its tenant has changed since the principal token was signed: repeat the request")]
    Outdated,
    /// It cannot be verified now.
    #[error("the principal token cannot be verified: {0}")]
    Undecided(#[from] Error),
}
