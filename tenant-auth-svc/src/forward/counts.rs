//! Counts the requests of front doors by their outcome.

use std::time::Duration;

use crate::instruments::{
    counts::Counts,
    durations::{Distribution, DurationHistograms},
};

/// A front door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// `envoy.service.auth.v3.Authorization/Check`.
    ExtAuthz,
    /// `/forward-auth`.
    ForwardAuth,
    /// `/forward-auth/nginx`.
    Nginx,
    /// `/oauth2/introspect`.
    Introspection,
}

impl Door {
    /// All doors, in order.
    pub const ALL: [Self; 4] = [Self::ExtAuthz, Self::ForwardAuth, Self::Nginx, Self::Introspection];

    /// Returns the name used in metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ExtAuthz => "ext_authz",
            Self::ForwardAuth => "forward_auth",
            Self::Nginx => "nginx",
            Self::Introspection => "introspection",
        }
    }
}

/// What a door answers. Codes that are not listed are counted as the last one.
const CODES: [&str; 16] = [
    ADMITTED,
    "NO_CREDENTIALS",
    "AMBIGUOUS_REQUEST",
    "UNKNOWN",
    "MALFORMED",
    "EXPIRED",
    "REVOKED",
    "DISABLED",
    "TENANT_SUSPENDED",
    "ADDRESS_REQUIRED",
    "ADDRESS_NOT_ALLOWED",
    "INSUFFICIENT_SCOPE",
    "PROXY_MISCONFIGURED",
    "UNKNOWN_CALLER",
    INVALID_REQUEST,
    "UNDECIDED",
];

/// The code of an admitted request, and of an active key.
pub(super) const ADMITTED: &str = "ADMITTED";
/// The code of a request of introspection that is malformed.
pub(super) const INVALID_REQUEST: &str = "INVALID_REQUEST";

/// The counts of all doors.
#[derive(Debug)]
pub struct DoorCounts {
    requests: Counts,
    durations: DurationHistograms,
}

impl Default for DoorCounts {
    fn default() -> Self {
        Self {
            requests: Counts::new(Door::ALL.len() * CODES.len()),
            durations: DurationHistograms::new(Door::ALL.len()),
        }
    }
}

impl DoorCounts {
    /// Counts a request that was answered with a code.
    pub(super) fn add(&self, door: Door, code: &str, duration: Duration) {
        let outcome = CODES.iter().position(|known| *known == code).unwrap_or(CODES.len() - 1);
        self.requests.add(door as usize * CODES.len() + outcome, 1);
        self.durations.record(door as usize, duration);
    }

    /// Returns the number of requests by door and code.
    pub fn requests(&self) -> impl Iterator<Item = (Door, &'static str, u64)> {
        Door::ALL.into_iter().flat_map(move |door| {
            let count = move |index| self.requests.get(door as usize * CODES.len() + index);
            CODES.iter().enumerate().map(move |(index, code)| (door, *code, count(index)))
        })
    }

    /// Returns the duration of the requests of a door.
    #[must_use]
    pub fn duration(&self, door: Door) -> Distribution {
        self.durations.read(door as usize)
    }
}
