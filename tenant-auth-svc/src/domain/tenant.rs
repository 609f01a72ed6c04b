//! Tenants: the customers whose keys are judged.

use super::{
    clock::UnixMillis,
    id::TenantId,
    text::{Plan, TenantName},
};

/// Whether a tenant's keys are honoured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantStatus {
    /// They are.
    Active,
    /// They are not, until the tenant is resumed.
    Suspended,
}

impl TenantStatus {
    /// As the database writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
        }
    }

    /// From how the database writes it.
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
    /// Its id.
    pub id: TenantId,
    /// Display name.
    pub name: TenantName,
    /// An opaque label.
    pub plan: Plan,
    /// Whether its keys are honoured.
    pub status: TenantStatus,
    /// Why it is suspended; empty while it is active.
    pub suspend_reason: String,
    /// When it was created.
    pub created_at: UnixMillis,
    /// When it last changed.
    pub updated_at: UnixMillis,
}

/// A tenant to create.
#[derive(Clone, Debug)]
pub struct NewTenant {
    /// Its id, made or brought along.
    pub id: TenantId,
    /// Display name.
    pub name: TenantName,
    /// An opaque label.
    pub plan: Plan,
}
