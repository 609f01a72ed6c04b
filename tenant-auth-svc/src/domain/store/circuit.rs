//! Which calls say something about each other.

use super::{Lane, Operation};

/// Calls that say something about each other. What one lane reads slowly says nothing about another, and writes that are
/// refused say nothing about reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Circuit {
    /// Looking up keys and sessions, on the path of a validation. Open, it means that the database is unreachable.
    Lookups,
    /// Listing sessions.
    Sessions,
    /// Summing usage.
    Usage,
    /// Reading tenants, keys and the audit log.
    Admin,
    /// Start-up checks and reading ahead.
    Maintenance,
    /// Every write.
    Writes,
}

impl Circuit {
    /// Every circuit.
    pub const ALL: [Self; 6] =
        [Self::Lookups, Self::Sessions, Self::Usage, Self::Admin, Self::Maintenance, Self::Writes];

    /// As logs and metrics write it.
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

    /// What its calls do.
    #[must_use]
    pub fn operation(self) -> Operation {
        match self {
            Self::Lookups | Self::Sessions | Self::Usage | Self::Admin | Self::Maintenance => Operation::Read,
            Self::Writes => Operation::Write,
        }
    }

    /// The circuit of a call; `None` if none stops it.
    #[must_use]
    pub fn for_operation(lane: Lane, operation: Operation) -> Option<Self> {
        match operation {
            Operation::Write => Some(Self::Writes),
            Operation::Read => lane.policy().circuit,
        }
    }
}
