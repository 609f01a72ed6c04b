//! What a database call is for, and the one table of how the calls of each kind are treated.

use std::time::Duration;

use super::Circuit;

/// What a database call is for. Lanes are bulkheads: each has limits of its own, so that none can starve another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Reloading keys that are in the cache.
    Known,
    /// Looking for keys that are not: a flood of invented keys must not delay the others.
    Unknown,
    /// Binding and unbinding sessions.
    Sessions,
    /// Recording and summing usage.
    Usage,
    /// Managing tenants and keys.
    Admin,
    /// Reading the change log.
    Feed,
    /// Migrations, start-up checks and the read-ahead.
    Maintenance,
}

/// How the database client treats the calls of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LanePolicy {
    /// The lane's part of the reads in flight.
    pub share: LaneShare,
    /// How long a call may take, and whether it is retried.
    pub attempts: LaneAttempts,
    /// The circuit of its reads; `None` if no circuit stops them. All writes share [`Circuit::WriteStatus`].
    pub circuit: Option<Circuit>,
    /// How many of its transactions may wait for their turn. More would wait in vain: a caller waits for some seconds, and a
    /// nearby database makes some hundred changes a second.
    pub queued_writes: usize,
}

/// A lane's part of the reads in flight, of at least one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneShare {
    /// One in so many.
    OneIn(usize),
    /// What the other lanes leave: of the default total about a third.
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

/// How long the reads of a lane may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneTimeouts {
    /// The first attempt. The second one has what is left of the total, so that a distant database can still be connected to.
    pub attempt: Duration,
    /// Both attempts together.
    pub total: Duration,
}

impl LaneTimeouts {
    /// Of listings, at least.
    pub const LISTING: Self = Self { attempt: Duration::from_secs(2), total: Duration::from_secs(5) };

    /// The longer of two, each time by itself.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { attempt: self.attempt.max(other.attempt), total: self.total.max(other.total) }
    }
}

impl Lane {
    /// Every lane.
    pub const ALL: [Self; 7] =
        [Self::Known, Self::Unknown, Self::Sessions, Self::Usage, Self::Admin, Self::Feed, Self::Maintenance];

    /// The lanes that change something.
    pub const WRITING: [Self; 4] = [Self::Sessions, Self::Usage, Self::Admin, Self::Maintenance];

    /// How the lane's calls are treated.
    #[must_use]
    pub const fn policy(self) -> LanePolicy {
        use LaneAttempts::{Listing, Lookup, Single};
        use LaneShare::{OneIn, Rest};
        let (share, attempts, circuit, queued_writes) = match self {
            Self::Known => (Rest, Lookup, Some(Circuit::Lookups), 64),
            Self::Unknown => (OneIn(4), Lookup, Some(Circuit::Lookups), 64),
            Self::Sessions => (OneIn(8), Listing, Some(Circuit::Sessions), 1_024),
            // The usage batcher sends one transaction at a time.
            Self::Usage => (OneIn(16), Listing, Some(Circuit::Usage), 64),
            Self::Admin => (OneIn(8), Listing, Some(Circuit::Admin), 512),
            // The next poll is the second attempt, and no probe of another call delays it: it finds a database that is back.
            Self::Feed => (OneIn(16), Single, None, 64),
            // A migration may take longer than any validation. Of each kind of maintenance one transaction waits.
            Self::Maintenance => (OneIn(16), Single, Some(Circuit::Maintenance), 64),
        };
        LanePolicy { share, attempts, circuit, queued_writes }
    }

    /// The lane's place in [`Lane::ALL`], and in arrays with one element for each lane.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::Unknown => "unknown",
            Self::Sessions => "sessions",
            Self::Usage => "usage",
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
        assert_eq!(Lane::ALL.map(Lane::index), [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn exactly_one_lane_has_what_the_others_leave() {
        let of_rest = Lane::ALL.into_iter().filter(|lane| lane.policy().share == LaneShare::Rest);
        assert_eq!(of_rest.collect::<Vec<_>>(), [Lane::Known]);
    }
}
