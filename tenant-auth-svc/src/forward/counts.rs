//! Counts the requests of front doors by the status that the customer gets.

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

/// The statuses that a door answers with.
const STATUSES: [(u16, &str); 6] =
    [(200, "200"), (400, "400"), (401, "401"), (403, "403"), (429, "429"), (503, "503")];

/// The counts of all doors.
#[derive(Debug)]
pub struct DoorCounts {
    requests: Counts,
    durations: DurationHistograms,
}

impl Default for DoorCounts {
    fn default() -> Self {
        Self {
            requests: Counts::new(Door::ALL.len() * STATUSES.len()),
            durations: DurationHistograms::new(Door::ALL.len()),
        }
    }
}

impl DoorCounts {
    /// Counts a request.
    pub fn add(&self, door: Door, status: u16, duration: Duration) {
        if let Some(index) = STATUSES.iter().position(|(known, _)| *known == status) {
            self.requests.add(door as usize * STATUSES.len() + index, 1);
        }
        self.durations.record(door as usize, duration);
    }

    /// Returns the number of requests by door and status.
    pub fn requests(&self) -> impl Iterator<Item = (Door, &'static str, u64)> {
        Door::ALL.into_iter().flat_map(move |door| {
            STATUSES.iter().enumerate().map(move |(index, (_, status))| {
                (door, *status, self.requests.get(door as usize * STATUSES.len() + index))
            })
        })
    }

    /// Returns the duration of the requests of a door.
    #[must_use]
    pub fn duration(&self, door: Door) -> Distribution {
        self.durations.read(door as usize)
    }
}
