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

/// Which server answers a read, where a read replica of the database has a URL of its own. Without one, the only
/// server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// The read replica while it is current enough, and the primary otherwise or if the read replica fails.
    Nearest,
    /// The server of the write URL: the answer must be current.
    Primary,
    /// The read replica and no other: the call shows how current it is.
    ReadReplica,
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
    /// Which server answers, if it is a read.
    pub read_from: ReadFrom,
}

impl Call {
    /// Creates a call with a deadline. Its lane decides which server answers.
    #[must_use]
    pub fn until(lane: Lane, deadline: Instant) -> Self {
        Self { lane, deadline, has_shortened_deadline: false, read_from: lane.policy().read_from }
    }

    /// Chooses the server that answers, if it is a read.
    #[must_use]
    pub fn reading_from(self, read_from: ReadFrom) -> Self {
        Self { read_from, ..self }
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
