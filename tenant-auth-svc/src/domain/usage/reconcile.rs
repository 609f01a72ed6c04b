//! Proving that totals are the sums of their events.

use super::{Hour, Metric, UsageStore};
use crate::domain::{
    id::TenantId,
    page::{PageRequest, PageSize},
    store::{Call, Store, StoreError},
};

/// The most differences that are told of one tenant.
const MOST: usize = 1_000;

/// A total that is not the sum of its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Whose.
    pub tenant_id: TenantId,
    /// Of which hour.
    pub hour: Hour,
    /// Of what.
    pub metric: Metric,
    /// What the total says; 0 when there is none.
    pub total: i64,
    /// What its events add up to.
    pub events: i64,
}

/// What a comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// How many tenants were looked at.
    pub tenants: usize,
    /// Up to 1,000 differences of each.
    pub differences: Vec<Difference>,
}

/// Compares the hours from the first and before the second, of one tenant or of all; each tenant at one moment.
///
/// # Errors
/// When the database gives no answer.
pub async fn reconcile<S: Store + UsageStore>(
    store: &S,
    tenant: Option<TenantId>,
    hours: (Hour, Hour),
    call: impl Fn() -> Call,
) -> Result<Reconciled, StoreError> {
    let mut found = Reconciled::default();
    if let Some(tenant) = tenant {
        found.tenants = usize::from(store.get_tenant(call(), &tenant).await?.is_some());
        found.differences = store.compare_usage(call(), &tenant, hours, MOST).await?;
        return Ok(found);
    }
    let mut after = None;
    loop {
        let page = store.list_tenants(call(), &PageRequest { size: PageSize::MAX, after }).await?;
        for tenant in &page.items {
            found.tenants += 1;
            found.differences.extend(store.compare_usage(call(), &tenant.id, hours, MOST).await?);
        }
        after = page.next;
        if after.is_none() {
            return Ok(found);
        }
    }
}
