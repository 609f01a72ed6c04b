//! The purpose of a database call, and the policy for each.

use std::time::Duration;

use super::{Circuit, ReadFrom};

/// The purpose of a database call. Lanes are bulkheads: each has its own limits, so that none can starve
/// another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Reloading cached keys and sessions.
    Known,
    /// Looking up keys and sessions that are not cached: a flood of invented ones must not delay the others.
    Unknown,
    /// Binding and unbinding sessions.
    Sessions,
    /// Recording and summing usage.
    Usage,
    /// Reading limits, and exchanging their leases.
    Limits,
    /// Managing tenants and keys.
    Admin,
    /// Reading the change log.
    Feed,
    /// Migrations, start-up checks and preloading.
    Maintenance,
}

/// How the database client treats the calls of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LanePolicy {
    /// The lane's part of the reads in flight.
    pub share: LaneShare,
    /// How long a call may take, and whether it is retried.
    pub attempts: LaneAttempts,
    /// The circuit of its reads; `None` if no circuit stops them. All writes share [`Circuit::Writes`].
    pub circuit: Option<Circuit>,
    /// Maximum number of queued transactions. More would time out: callers wait for a few seconds, and a
    /// nearby database commits some hundred changes a second.
    pub queued_writes: usize,
    /// Which server answers its reads, unless a call chooses another one.
    pub read_from: ReadFrom,
}

/// A lane's part of the reads in flight, at least one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneShare {
    /// One of this many.
    OneIn(usize),
    /// The remainder of the other lanes: about a quarter of the default total.
    Rest,
}

/// How often a call of a lane is sent, and how long it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneAttempts {
    /// A look-up on the path of a validation: the configured timeouts, one retry.
    Lookup,
    /// A read or a change that an operator or a service waits for: [`LaneTimeouts::LISTING`] for reads, one retry.
    Listing,
    /// One attempt, for as long as the caller allows.
    Single,
}

/// Time limits of the reads of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneTimeouts {
    /// Time limit of the first attempt. The second one has the rest of the total, so that a connection to a
    /// distant database can still be established.
    pub attempt: Duration,
    /// Time limit of both attempts together.
    pub total: Duration,
}

impl LaneTimeouts {
    /// The minimum for listings.
    pub const LISTING: Self = Self { attempt: Duration::from_secs(2), total: Duration::from_secs(5) };

    /// Returns the longer of each limit.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { attempt: self.attempt.max(other.attempt), total: self.total.max(other.total) }
    }
}

impl Lane {
    /// Every lane.
    pub const ALL: [Self; 8] = [
        Self::Known,
        Self::Unknown,
        Self::Sessions,
        Self::Usage,
        Self::Limits,
        Self::Admin,
        Self::Feed,
        Self::Maintenance,
    ];

    /// The lanes that write.
    pub const WRITING: [Self; 5] =
        [Self::Sessions, Self::Usage, Self::Limits, Self::Admin, Self::Maintenance];

    /// Returns the policy of the lane.
    #[must_use]
    pub const fn policy(self) -> LanePolicy {
        use LaneAttempts::{Listing, Lookup, Single};
        use LaneShare::{OneIn, Rest};
        let (share, attempts, circuit, queued_writes) = match self {
            Self::Known => (Rest, Lookup, Some(Circuit::Lookups), 64),
            Self::Unknown => (OneIn(4), Lookup, Some(Circuit::Lookups), 64),
            Self::Sessions => (OneIn(8), Listing, Some(Circuit::Sessions), 1_024),
            // The usage batcher has at most one transaction in flight.
            Self::Usage => (OneIn(16), Listing, Some(Circuit::Usage), 64),
            // At most one exchange is in flight. Reads are on the path of a decision.
            Self::Limits => (OneIn(16), Lookup, Some(Circuit::Lookups), 64),
            Self::Admin => (OneIn(8), Listing, Some(Circuit::Admin), 512),
            // The next poll serves as the second attempt. Without a circuit, a poll detects at once that the
            // database is back.
            Self::Feed => (OneIn(16), Single, None, 64),
            // A migration may take longer than any validation. Each kind of maintenance queues one
            // transaction.
            Self::Maintenance => (OneIn(16), Single, Some(Circuit::Maintenance), 64),
        };
        let read_from = match self {
            Self::Known | Self::Unknown | Self::Sessions | Self::Usage | Self::Admin => ReadFrom::Nearest,
            // Leases and start-up checks decide what is written; the feed chooses for each poll.
            Self::Limits | Self::Feed | Self::Maintenance => ReadFrom::Primary,
        };
        LanePolicy { share, attempts, circuit, queued_writes, read_from }
    }

    /// Returns the index in [`Lane::ALL`], and in arrays with one element per lane.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Returns the name used in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::Unknown => "unknown",
            Self::Sessions => "sessions",
            Self::Usage => "usage",
            Self::Limits => "limits",
            Self::Admin => "admin",
            Self::Feed => "feed",
            Self::Maintenance => "maintenance",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_is_the_place_in_the_list_of_all_lanes() {
        assert_eq!(Lane::ALL.map(Lane::index), [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn exactly_one_lane_has_what_the_others_leave() {
        let of_rest = Lane::ALL.into_iter().filter(|lane| lane.policy().share == LaneShare::Rest);
        assert_eq!(of_rest.collect::<Vec<_>>(), [Lane::Known]);
    }
}
