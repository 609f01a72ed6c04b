//! Circuits: groups of calls that share a circuit breaker.

use super::{Lane, Operation};

/// Calls that share a circuit breaker, because their failures are related. Slow reads of one lane are not
/// related to those of another, and rejected writes are not related to reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Circuit {
    /// Lookups of keys and sessions, on the path of a validation. If it is open, the database counts as
    /// unreachable.
    Lookups,
    /// Listing sessions.
    Sessions,
    /// Summing usage.
    Usage,
    /// Reading tenants, keys and the audit log.
    Admin,
    /// Start-up checks and preloading.
    Maintenance,
    /// All writes.
    Writes,
}

impl Circuit {
    /// All circuits.
    pub const ALL: [Self; 6] =
        [Self::Lookups, Self::Sessions, Self::Usage, Self::Admin, Self::Maintenance, Self::Writes];

    /// Returns the name used in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lookups => "lookups",
            Self::Sessions => "sessions",
            Self::Usage => "usage",
            Self::Admin => "admin",
            Self::Maintenance => "maintenance",
            Self::Writes => "writes",
        }
    }

    /// Returns the operation of its calls.
    #[must_use]
    pub fn operation(self) -> Operation {
        match self {
            Self::Lookups | Self::Sessions | Self::Usage | Self::Admin | Self::Maintenance => Operation::Read,
            Self::Writes => Operation::Write,
        }
    }

    /// Returns the circuit of a call; `None` if it has none.
    #[must_use]
    pub fn for_operation(lane: Lane, operation: Operation) -> Option<Self> {
        match operation {
            Operation::Write => Some(Self::Writes),
            Operation::Read => lane.policy().circuit,
        }
    }
}
