//! Tenants: the customers whose keys are validated.

use super::{
    clock::UnixMillis,
    etag::Etag,
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
    /// Changes with every change of the tenant.
    pub etag: Etag,
}

/// The outcome of creating a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTenant {
    /// The tenant with the requested id, as stored.
    pub tenant: Tenant,
    /// Whether this call created it. If not, it existed before.
    pub is_new: bool,
}

/// Changes of a tenant. `None` keeps a value.
#[derive(Clone, Debug, Default)]
pub struct TenantUpdate {
    /// Display name.
    pub name: Option<TenantName>,
    /// Plan, an opaque label.
    pub plan: Option<Plan>,
}

impl TenantUpdate {
    /// Whether a tenant has the new values already.
    #[must_use]
    pub fn is_applied_to(&self, tenant: &Tenant) -> bool {
        self.name.as_ref().is_none_or(|name| *name == tenant.name)
            && self.plan.as_ref().is_none_or(|plan| *plan == tenant.plan)
    }
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
