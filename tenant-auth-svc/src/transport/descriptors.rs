//! How many connections the operating system leaves room for.
//!
//! Each takes a file descriptor. Were they all taken by callers, nothing else could be opened: no connection to the database, no
//! look at `/livez`, no file with renewed certificates.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is kept for everything but callers: connections to the database, of those who look, files.
const RESERVED_DESCRIPTORS: u64 = 192;

/// How file descriptors are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorBudget {
    /// For callers' connections.
    pub connections: usize,
    /// For the connections of those who look at health and metrics.
    pub ops: usize,
}

/// The most connections of those who look, however many descriptors there are.
const MAX_OPS_CONNECTIONS: u64 = 64;

impl DescriptorBudget {
    /// Of `limit`, of which some are open for other things.
    #[must_use]
    pub fn split(limit: u64, open: u64) -> Self {
        let left = limit.saturating_sub(open);
        // Where there are very few, half of them.
        let reserve = RESERVED_DESCRIPTORS.min(left / 2);
        let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).max(1);
        Self { connections: number(left - reserve), ops: number(MAX_OPS_CONNECTIONS.min(reserve / 3)) }
    }
}

/// Lets this process open as many files as it may, and says how many that is; `None` for no limit. Its own limit is often 1,024
/// for the sake of programs that are older than this one.
pub fn raise_limit() -> Option<u64> {
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
    fn every_use_gets_at_least_one_descriptor() {
        assert_eq!(
            DescriptorBudget::split(1_048_576, 40),
            DescriptorBudget { connections: 1_048_344, ops: 64 }
        );
        assert_eq!(DescriptorBudget::split(1_024, 40), DescriptorBudget { connections: 792, ops: 64 });
        assert_eq!(DescriptorBudget::split(64, 30), DescriptorBudget { connections: 17, ops: 5 });
        assert_eq!(DescriptorBudget::split(16, 30), DescriptorBudget { connections: 1, ops: 1 });
    }

    #[test]
    fn file_limit_is_raised_to_the_maximum() {
        let limit = raise_limit();
        assert_eq!(limit, getrlimit(Resource::Nofile).maximum);
    }
}
