//! Divides the file descriptors of the process.
//!
//! Each connection needs a file descriptor. If callers used all of them, the server could open no connection
//! to the database, answer no probe on `/livez`, and read no renewed certificate.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors reserved for everything but callers' connections: the database, ops clients, files.
const RESERVED_DESCRIPTORS: u64 = 192;

/// The maximum numbers of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorBudget {
    /// Connections of callers.
    pub connections: usize,
    /// Connections of ops clients, which read health and metrics.
    pub ops: usize,
}

/// The maximum number of connections of ops clients.
const MAX_OPS_CONNECTIONS: u64 = 64;

impl DescriptorBudget {
    /// Divides a limit of which `open` descriptors are in use.
    #[must_use]
    pub fn split(limit: u64, open: u64) -> Self {
        let left = limit.saturating_sub(open);
        // With very few descriptors, half of them.
        let reserve = RESERVED_DESCRIPTORS.min(left / 2);
        let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).max(1);
        Self { connections: number(left - reserve), ops: number(MAX_OPS_CONNECTIONS.min(reserve / 3)) }
    }
}

/// Raises the limit of open files to the maximum, and returns it; `None` means no limit. The default is often
/// 1,024, for programs that use `select`.
pub fn raise_limit() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::debug!(%error, "open-files limit not raised");
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
