//! Tenants: the customers whose keys are validated.

use super::{
    clock::UnixMillis,
    id::TenantId,
    text::{Plan, TenantName},
};

/// Whether a tenant's keys are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantStatus {
    /// They are accepted.
    Active,
    /// They are denied until the tenant is resumed.
    Suspended,
}

impl TenantStatus {
    /// Returns the name stored in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
        }
    }

    /// Parses the name stored in the database.
    #[must_use]
    pub fn from_stored(text: &str) -> Option<Self> {
        match text {
            "active" => Some(Self::Active),
            "suspended" => Some(Self::Suspended),
            _ => None,
        }
    }
}

/// A tenant as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Id of the tenant.
    pub id: TenantId,
    /// Display name.
    pub name: TenantName,
    /// Plan, an opaque label.
    pub plan: Plan,
    /// Whether its keys are accepted.
    pub status: TenantStatus,
    /// Why it is suspended; empty while it is active.
    pub suspend_reason: String,
    /// When it was created.
    pub created_at: UnixMillis,
    /// When it was last changed.
    pub updated_at: UnixMillis,
}

/// A tenant to create.
#[derive(Clone, Debug)]
pub struct NewTenant {
    /// Id of the tenant, generated or chosen by the caller.
    pub id: TenantId,
    /// Display name.
    pub name: TenantName,
    /// Plan, an opaque label.
    pub plan: Plan,
}
