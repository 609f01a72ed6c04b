//! What a database call does, and how long it may take.

use std::time::{Duration, Instant};

use super::{FailureKind, Lane};

/// What a database call does. The one says nothing about the other: a database over its quota, or with a full disk, answers
/// every read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// It reads.
    Read,
    /// It changes something.
    Write,
}

impl Operation {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Read, Self::Write];

    /// As logs and metrics write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// The circumstances of a database call.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// What it is for.
    pub lane: Lane,
    /// When nobody waits for it any longer. The database hop may give up sooner, never later.
    pub deadline: Instant,
    /// Whether it was given less time than such a call needs, because somebody waits no longer.
    pub has_shortened_deadline: bool,
}

impl Call {
    /// A call that must be over at a moment.
    #[must_use]
    pub fn until(lane: Lane, deadline: Instant) -> Self {
        Self { lane, deadline, has_shortened_deadline: false }
    }

    /// What the outcome of this call says about the database: that it answers, that it does not, or nothing.
    #[must_use]
    pub fn database_responds(&self, failure: Option<FailureKind>) -> Option<bool> {
        match failure {
            None => Some(true),
            // A caller that waits for a millisecond proves nothing.
            Some(FailureKind::TimedOut) if self.has_shortened_deadline => None,
            Some(kind) => kind.database_responds(),
        }
    }

    /// A call that may take this long.
    #[must_use]
    pub fn within(lane: Lane, time: Duration) -> Self {
        Self::until(lane, Instant::now() + time)
    }
}
