//! What keeps a request out.

use thiserror::Error;

use crate::{Error, Provenance, Subject, Validation, Verdict};

/// A decision that keeps a request out. Never means that nothing was decided: that is an [`Error`](enum@crate::Error).
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("denied: {}", .0.verdict)]
pub struct Denied(Box<Validation>);

/// Why [`Client::require`](crate::Client::require) gave no principal.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NotAdmitted {
    /// It was decided: the request may not proceed.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Nothing was decided, so the request may not proceed now.
    #[error(transparent)]
    Undecided(#[from] Error),
}

impl Denied {
    pub(crate) fn new(validation: Validation) -> Self {
        Self(Box::new(validation))
    }

    /// The decision; never [`Verdict::Valid`].
    pub fn verdict(&self) -> Verdict {
        self.0.verdict
    }

    /// With [`Verdict::InsufficientScope`]: the required scopes that the key lacks.
    #[must_use]
    pub fn missing_scopes(&self) -> &[String] {
        &self.0.missing_scopes
    }

    /// Whose key or session it is, for logs; empty where it is nobody's.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.0.subject
    }

    /// Where the answer came from and how long it may be reused.
    #[must_use]
    pub fn provenance(&self) -> Provenance {
        self.0.provenance
    }
}
