//! Tenants: the customers whose keys are validated.

use compact_str::CompactString;

use super::{
    clock::UnixMillis,
    etag::Etag,
    id::TenantId,
    leak::LeakPolicy,
    text::{Plan, Reason, TenantName},
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

/// The data of a tenant that a verdict depends on, as of one read. The records of its keys share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantSnapshot {
    /// Id of the tenant.
    pub id: TenantId,
    /// Display name.
    pub name: CompactString,
    /// Plan, an opaque label.
    pub plan: CompactString,
    /// Whether its keys are accepted.
    pub status: TenantStatus,
}

impl TenantSnapshot {
    /// Returns the memory that it takes, in bytes, including everything it owns.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        // Short texts are stored in the snapshot itself.
        let on_heap = |text: &CompactString| if text.is_heap_allocated() { text.capacity() } else { 0 };
        size_of::<Self>() + on_heap(&self.name) + on_heap(&self.plan)
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
    /// What happens to its leaked keys; `None` for the default of the service.
    pub leak_policy: Option<LeakPolicy>,
    /// When its deletion began; `None` if it is not being deleted.
    pub deletion_started_at: Option<UnixMillis>,
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
    /// What happens to its leaked keys; `Some(None)` for the default of the service.
    pub leak_policy: Option<Option<LeakPolicy>>,
}

impl TenantUpdate {
    /// Whether a tenant has the new values already.
    #[must_use]
    pub fn is_applied_to(&self, tenant: &Tenant) -> bool {
        self.name.as_ref().is_none_or(|name| *name == tenant.name)
            && self.plan.as_ref().is_none_or(|plan| *plan == tenant.plan)
            && self.leak_policy.is_none_or(|policy| policy == tenant.leak_policy)
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

/// A suspended tenant to delete.
#[derive(Clone, Debug)]
pub struct TenantDeletion {
    /// Id of the tenant.
    pub id: TenantId,
    /// Why, for the audit log.
    pub reason: Reason,
    /// Whether its usage is deleted, too.
    pub with_usage: bool,
}

/// What a deletion has deleted. A step whose response was lost counts only what its repetition deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeletedRows {
    /// Number of sessions.
    pub sessions: u64,
    /// Number of keys.
    pub keys: u64,
    /// Number of events and totals of usage.
    pub usage: u64,
}

impl DeletedRows {
    /// Adds what another step has deleted.
    pub fn add(&mut self, other: Self) {
        self.sessions += other.sessions;
        self.keys += other.keys;
        self.usage += other.usage;
    }
}

/// The state of a tenant after a step of its deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletionState {
    /// It is suspended and marked, and there is more to delete.
    Incomplete,
    /// It is deleted, by this step or before.
    Deleted,
    /// It is not suspended, so nothing was deleted.
    Active,
    /// It never existed.
    NeverExisted,
}
