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

/// What a door answers: the code, and the status for the customer.
///
/// Codes that are not listed are counted as the last one.
const OUTCOMES: [(&str, u16); 16] = [
    (ADMITTED, 200),
    ("NO_CREDENTIALS", 401),
    ("AMBIGUOUS_REQUEST", 400),
    ("UNKNOWN", 401),
    ("MALFORMED", 401),
    ("EXPIRED", 401),
    ("REVOKED", 401),
    ("DISABLED", 403),
    ("TENANT_SUSPENDED", 403),
    ("ADDRESS_REQUIRED", 403),
    ("ADDRESS_NOT_ALLOWED", 403),
    ("INSUFFICIENT_SCOPE", 403),
    ("PROXY_MISCONFIGURED", 503),
    ("UNKNOWN_CALLER", 503),
    (INVALID_REQUEST, 400),
    ("UNDECIDED", 503),
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
            requests: Counts::new(Door::ALL.len() * OUTCOMES.len()),
            durations: DurationHistograms::new(Door::ALL.len()),
        }
    }
}

impl DoorCounts {
    /// Counts a request that was answered with a code.
    pub(super) fn add(&self, door: Door, code: &str, duration: Duration) {
        let outcome = OUTCOMES.iter().position(|(known, _)| *known == code).unwrap_or(OUTCOMES.len() - 1);
        self.requests.add(door as usize * OUTCOMES.len() + outcome, 1);
        self.durations.record(door as usize, duration);
    }

    /// Returns the number of requests by door, code, and status for the customer.
    pub fn requests(&self) -> impl Iterator<Item = (Door, &'static str, u16, u64)> {
        Door::ALL.into_iter().flat_map(move |door| {
            OUTCOMES.iter().enumerate().map(move |(index, (code, status))| {
                (door, *code, *status, self.requests.get(door as usize * OUTCOMES.len() + index))
            })
        })
    }

    /// Returns the duration of the requests of a door.
    #[must_use]
    pub fn duration(&self, door: Door) -> Distribution {
        self.durations.read(door as usize)
    }
}
