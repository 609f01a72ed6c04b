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
    /// Connections of proxies over HTTP; 0 without an address for them.
    pub forward: usize,
}

/// The maximum number of connections of proxies over HTTP, and the share of callers' connections that it is at most.
const MAX_FORWARD_CONNECTIONS: u64 = 2_048;
const FORWARD_SHARE: u64 = 5;

/// The maximum number of connections of ops clients.
const MAX_OPS_CONNECTIONS: u64 = 64;

impl DescriptorBudget {
    /// Divides a limit of which `open` descriptors are in use. `has_forward`: whether there is an address for proxies.
    #[must_use]
    pub fn split(limit: u64, open: u64, has_forward: bool) -> Self {
        let left = limit.saturating_sub(open);
        // With very few descriptors, half of them.
        let reserve = RESERVED_DESCRIPTORS.min(left / 2);
        let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).max(1);
        let forward =
            if has_forward { MAX_FORWARD_CONNECTIONS.min((left - reserve) / FORWARD_SHARE) } else { 0 };
        Self {
            connections: number(left - reserve - forward),
            ops: number(MAX_OPS_CONNECTIONS.min(reserve / 3)),
            forward: if has_forward { number(forward) } else { 0 },
        }
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
        let split = |limit, open, has_forward| {
            let budget = DescriptorBudget::split(limit, open, has_forward);
            (budget.connections, budget.ops, budget.forward)
        };
        assert_eq!(split(1_048_576, 40, false), (1_048_344, 64, 0));
        assert_eq!(split(1_024, 40, false), (792, 64, 0));
        assert_eq!(split(64, 30, false), (17, 5, 0));
        assert_eq!(split(16, 30, false), (1, 1, 0));
        assert_eq!(split(1_048_576, 40, true), (1_046_296, 64, 2_048));
        assert_eq!(split(1_024, 40, true), (634, 64, 158));
        assert_eq!(split(16, 30, true), (1, 1, 1));
    }

    #[test]
    fn file_limit_is_raised_to_the_maximum() {
        let limit = raise_limit();
        assert_eq!(limit, getrlimit(Resource::Nofile).maximum);
    }
}
