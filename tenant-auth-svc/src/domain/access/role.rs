//! The roles of callers.

use std::fmt;

/// A role of a caller. The RPCs of each role are in [`access_rules`](super::access_rules).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Validates keys and sessions, and subscribes to changes.
    Validator,
    /// A proxy: asks about the requests of customers.
    Proxy,
    /// Binds and unbinds sessions.
    Sessions,
    /// Records usage.
    Meter,
    /// Queries usage.
    Reporter,
    /// Changes tenants and keys.
    Admin,
    /// Reads what admins can read, and changes nothing.
    Auditor,
    /// A person who reads what an auditor can read, and may log in to the console.
    Viewer,
    /// A person who changes what an admin can change, and may log in to the console.
    Operator,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 9] = [
        Self::Validator,
        Self::Proxy,
        Self::Sessions,
        Self::Meter,
        Self::Reporter,
        Self::Admin,
        Self::Auditor,
        Self::Viewer,
        Self::Operator,
    ];

    /// Returns the name used in the callers file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Validator => "validator",
            Self::Proxy => "proxy",
            Self::Sessions => "sessions",
            Self::Meter => "meter",
            Self::Reporter => "reporter",
            Self::Admin => "admin",
            Self::Auditor => "auditor",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        }
    }

    /// Returns the role with a name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }

    const fn bit(self) -> u16 {
        1 << self as u8
    }
}

/// A set of roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles(u16);

impl Roles {
    /// Creates a set from a list.
    #[must_use]
    pub const fn of(roles: &[Role]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        // `const fn` allows no iterators.
        while i < roles.len() {
            bits |= roles[i].bit();
            i += 1;
        }
        Self(bits)
    }

    /// Whether the two sets have a common role.
    #[must_use]
    pub const fn intersects(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// Returns the roles of the set.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.0 & role.bit() != 0)
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Role::as_str).collect();
        f.write_str(&names.join(", "))
    }
}
