//! How many connections the operating system leaves room for.
//!
//! Each takes a file descriptor. Were they all taken by callers, nothing else could be opened: no connection to the database, no
//! look at `/livez`, no file with renewed certificates.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is kept for everything but callers: connections to the database, of those who look, files.
const RESERVE: u64 = 192;

/// How file descriptors are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// For callers' connections.
    pub connections: usize,
    /// For the connections of those who look at health and metrics.
    pub ops: usize,
}

/// The most connections of those who look, however many descriptors there are.
const MAX_OPS: u64 = 64;

impl Share {
    /// Of `limit`, of which some are open for other things.
    #[must_use]
    pub fn of(limit: u64, open: u64) -> Self {
        let left = limit.saturating_sub(open);
        // Where there are very few, half of them.
        let reserve = RESERVE.min(left / 2);
        let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).max(1);
        Self { connections: number(left - reserve), ops: number(MAX_OPS.min(reserve / 3)) }
    }
}

/// Lets this process open as many files as it may, and says how many that is; `None` for no limit. Its own limit is often 1,024
/// for the sake of programs that are older than this one.
pub fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::debug!(%error, "the limit of open files could not be raised");
            current
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_is_left_for_everybody() {
        assert_eq!(Share::of(1_048_576, 40), Share { connections: 1_048_344, ops: 64 });
        assert_eq!(Share::of(1_024, 40), Share { connections: 792, ops: 64 });
        assert_eq!(Share::of(64, 30), Share { connections: 17, ops: 5 });
        assert_eq!(Share::of(16, 30), Share { connections: 1, ops: 1 });
    }

    #[test]
    fn as_many_as_may_be_are() {
        let limit = raise();
        assert_eq!(limit, getrlimit(Resource::Nofile).maximum);
    }
}
