//! What a caller is for.

use std::fmt;

/// What a caller is for. Each has a list of RPCs, in [`policy`](super::access).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Decides about requests: asks for verdicts, and watches for changes.
    Validator,
    /// Opens and ends sessions.
    Sessions,
    /// Records usage.
    Meter,
    /// Reads usage.
    Reporter,
    /// Changes tenants and keys.
    Admin,
    /// Sees what admins see, and changes nothing.
    Auditor,
}

impl Role {
    /// All there are.
    pub const ALL: [Self; 6] =
        [Self::Validator, Self::Sessions, Self::Meter, Self::Reporter, Self::Admin, Self::Auditor];

    /// As the callers file writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Validator => "validator",
            Self::Sessions => "sessions",
            Self::Meter => "meter",
            Self::Reporter => "reporter",
            Self::Admin => "admin",
            Self::Auditor => "auditor",
        }
    }

    /// The role of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Some roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// Those of a list.
    #[must_use]
    pub const fn of(roles: &[Role]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        // `const`: no iterators.
        while i < roles.len() {
            bits |= roles[i].bit();
            i += 1;
        }
        Self(bits)
    }

    /// Whether one of them is among others.
    #[must_use]
    pub const fn intersects(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// One by one.
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
