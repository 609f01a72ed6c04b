//! The kind and the deadline of a database call.

use std::time::{Duration, Instant};

use super::{FailureKind, Lane};

/// The operation of a database call. Reads and writes fail independently: a database over its quota, or with
/// a full disk, still answers reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A read.
    Read,
    /// A write.
    Write,
}

impl Operation {
    /// Both operations.
    pub const ALL: [Self; 2] = [Self::Read, Self::Write];

    /// Returns the name used in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// The lane and the deadline of a database call.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The lane.
    pub lane: Lane,
    /// The deadline. The database client may time out earlier, never later.
    pub deadline: Instant,
    /// Whether the deadline is shorter than such a call needs, because the caller's own deadline is.
    pub has_shortened_deadline: bool,
}

impl Call {
    /// Creates a call with a deadline.
    #[must_use]
    pub fn until(lane: Lane, deadline: Instant) -> Self {
        Self { lane, deadline, has_shortened_deadline: false }
    }

    /// What the outcome of this call shows: that the database responds, that it does not, or nothing
    /// (`None`).
    #[must_use]
    pub fn database_responds(&self, failure: Option<FailureKind>) -> Option<bool> {
        match failure {
            None => Some(true),
            // A timeout after, say, one millisecond proves nothing.
            Some(FailureKind::TimedOut) if self.has_shortened_deadline => None,
            Some(kind) => kind.database_responds(),
        }
    }

    /// Creates a call with a time limit.
    #[must_use]
    pub fn within(lane: Lane, time: Duration) -> Self {
        Self::until(lane, Instant::now() + time)
    }
}
