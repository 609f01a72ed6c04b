//! Errors of a request that may not proceed.

use thiserror::Error;

use crate::{Error, Limits, Provenance, Subject, Validation, Verdict};

/// A denial: the request may not proceed. It never means that nothing was decided: that is an
/// [`Error`](enum@crate::Error).
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("denied: {}", .0.validation.verdict)]
pub struct Denied(Box<Denial>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Denial {
    validation: Validation,
    limits: Limits,
}

/// The reason why [`Client::require`](crate::Client::require) returned no principal.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NotAdmitted {
    /// The key was denied: the request may not proceed.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Nothing was decided: the request may not proceed now.
    #[error(transparent)]
    Undecided(#[from] Error),
}

impl Denied {
    pub(crate) fn new(validation: Validation) -> Self {
        Self::by_limits(validation, Limits::default())
    }

    /// Returns a denial by the limits of a key or session, or by its validation, with the verdict of `validation`.
    pub(crate) fn by_limits(validation: Validation, limits: Limits) -> Self {
        Self(Box::new(Denial { validation, limits }))
    }

    /// Returns the decision; never [`Verdict::Valid`].
    pub fn verdict(&self) -> Verdict {
        self.0.validation.verdict
    }

    /// Returns the required scopes that the key lacks, with [`Verdict::InsufficientScope`].
    #[must_use]
    pub fn missing_scopes(&self) -> &[String] {
        &self.0.validation.missing_scopes
    }

    /// Returns the owner of the key or session, for logs; empty if there is none.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.0.validation.subject
    }

    /// Returns where the answer came from and how long it may be reused.
    #[must_use]
    pub fn provenance(&self) -> Provenance {
        self.0.validation.provenance
    }

    /// Returns the limits that apply to the costs; empty if no limit decided.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }
}
