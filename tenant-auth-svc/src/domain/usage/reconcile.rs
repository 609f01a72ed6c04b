//! Compares totals with the sums of their events, and repairs those that differ.
//!
//! A trigger updates a total in the transaction of each event. A total differs only if another writer changed
//! either table: an SQL shell, or a partial copy of another database.

use std::collections::VecDeque;

use super::{Hour, UsageMetric, UsageRetention, UsageStore};
use crate::domain::{
    id::TenantId,
    page::{PageRequest, PageSize},
    store::{Call, Store, StoreError},
};

/// Maximum number of differences per page.
const MAX_DIFFERENCES_PER_PAGE: usize = 1_000;
/// Maximum number of totals repaired in one transaction.
const MAX_TOTALS_PER_REPAIR: usize = 100;
/// Approximate number of events summed in one repair transaction, which blocks other writers. A single total
/// may have more.
const MAX_EVENTS_PER_REPAIR: u64 = 50_000;

/// A total that differs from the sum of its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TotalDifference {
    /// The tenant.
    pub tenant_id: TenantId,
    /// The hour.
    pub hour: Hour,
    /// The metric.
    pub metric: UsageMetric,
    /// The stored total; 0 when there is none.
    pub total: i64,
    /// The sum of its events.
    pub events: i64,
    /// The number of event rows in the sum.
    pub rows: u64,
}

/// A total that was set to the sum of its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairedTotal {
    /// The hour.
    pub hour: Hour,
    /// The metric.
    pub metric: UsageMetric,
    /// The total before the repair; 0 when there was none.
    pub before: i64,
    /// The total after the repair.
    pub after: i64,
}

/// The position of a comparison within one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComparisonCursor {
    /// The hour to continue from.
    pub hour: Hour,
    /// Within this hour, only metrics after this one.
    pub after: Option<UsageMetric>,
}

/// One page of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComparisonPage {
    /// Totals that differ, by hour, then by metric.
    pub differences: Vec<TotalDifference>,
    /// The position of the next page; `None` when the tenant has no further totals.
    pub next: Option<ComparisonCursor>,
}

/// Compares the totals of one tenant, or of all, page by page.
#[derive(Debug)]
pub struct Reconciliation<'a, S> {
    store: &'a S,
    hours: (Hour, Hour),
    retention: UsageRetention,
    /// Tenants that were listed but not compared yet.
    pending_tenants: VecDeque<TenantId>,
    /// The position in the list of tenants.
    listing: TenantListing,
    /// The tenant that is being compared.
    current: Option<(TenantId, ComparisonCursor)>,
    compared_count: usize,
}

#[derive(Debug)]
enum TenantListing {
    After(Option<TenantId>),
    Ended,
}

impl<'a, S: Store + UsageStore> Reconciliation<'a, S> {
    /// Starts a comparison of the hours from the first one (inclusive) to the second one (exclusive).
    ///
    /// # Errors
    /// When the database does not respond to the lookup of the given tenant.
    pub async fn start(
        store: &'a S,
        tenant: Option<TenantId>,
        hours: (Hour, Hour),
        retention: UsageRetention,
        call: Call,
    ) -> Result<Self, StoreError> {
        let (tenants, listing) = match tenant {
            None => (VecDeque::new(), TenantListing::After(None)),
            Some(id) => {
                (store.get_tenant(call, &id).await?.map(|_| id).into_iter().collect(), TenantListing::Ended)
            }
        };
        Ok(Self {
            store,
            hours,
            retention,
            pending_tenants: tenants,
            listing,
            current: None,
            compared_count: 0,
        })
    }

    /// Returns the number of tenants that were compared completely.
    #[must_use]
    pub fn compared_tenants(&self) -> usize {
        self.compared_count
    }

    /// Returns the differences of the next page that has any, all of one tenant; `None` at the end.
    ///
    /// # Errors
    /// When the database does not respond; the next call requests the same page again.
    pub async fn next_differences(
        &mut self,
        call: impl Fn() -> Call,
    ) -> Result<Option<Vec<TotalDifference>>, StoreError> {
        loop {
            let (tenant, from) = match self.current.take() {
                Some(current) => current,
                None => match self.next_tenant(call()).await? {
                    Some(tenant) => (tenant, ComparisonCursor { hour: self.hours.0, after: None }),
                    None => return Ok(None),
                },
            };
            let page = self
                .store
                .compare_usage(
                    call(),
                    &tenant,
                    (&from, self.hours.1),
                    self.retention.duration(),
                    MAX_DIFFERENCES_PER_PAGE,
                )
                .await;
            match page {
                Err(error) => {
                    self.current = Some((tenant, from));
                    return Err(error);
                }
                Ok(ComparisonPage { differences, next }) => {
                    match next.filter(|next| next.hour < self.hours.1) {
                        Some(next) => self.current = Some((tenant, next)),
                        None => self.compared_count += 1,
                    }
                    if !differences.is_empty() {
                        return Ok(Some(differences));
                    }
                }
            }
        }
    }

    async fn next_tenant(&mut self, call: Call) -> Result<Option<TenantId>, StoreError> {
        if let (true, TenantListing::After(after)) = (self.pending_tenants.is_empty(), &self.listing) {
            let request = PageRequest { size: PageSize::MAX, after: after.clone() };
            let page = self.store.list_tenants(call, &request).await?;
            self.pending_tenants.extend(page.items.into_iter().map(|tenant| tenant.id));
            self.listing = page.next.map_or(TenantListing::Ended, |next| TenantListing::After(Some(next)));
        }
        Ok(self.pending_tenants.pop_front())
    }
}

/// Splits differences into batches for one transaction each: those of one tenant, with a limited number of
/// events.
pub fn repair_batches(differences: &[TotalDifference]) -> impl Iterator<Item = &[TotalDifference]> {
    let mut rest = differences;
    std::iter::from_fn(move || {
        let first = rest.first()?;
        let mut rows = 0;
        let fits = |difference: &&TotalDifference| {
            rows += difference.rows;
            rows <= MAX_EVENTS_PER_REPAIR && difference.tenant_id == first.tenant_id
        };
        let count = rest.iter().take(MAX_TOTALS_PER_REPAIR).take_while(fits).count().max(1);
        let (page, after) = rest.split_at(count);
        rest = after;
        Some(page)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::UnixMillis;

    fn difference(tenant: &str, rows: u64) -> TotalDifference {
        TotalDifference {
            tenant_id: TenantId::parse(tenant).unwrap(),
            hour: Hour::floor(UnixMillis(1_790_000_000_000)),
            metric: UsageMetric::parse("calls").unwrap(),
            total: 1,
            events: 2,
            rows,
        }
    }

    #[test]
    fn repair_batch_has_one_tenant_and_bounded_events() {
        let sizes =
            |differences: &[TotalDifference]| repair_batches(differences).map(<[_]>::len).collect::<Vec<_>>();
        assert!(sizes(&[]).is_empty());
        assert_eq!(sizes(&vec![difference("ten_1", 1); 250]), [100, 100, 50]);
        assert_eq!(sizes(&[difference("ten_1", 1), difference("ten_2", 1), difference("ten_2", 1)]), [1, 2]);
        let large: Vec<_> = [60_000, 30_000, 20_000, 1].map(|rows| difference("ten_1", rows)).into();
        assert_eq!(sizes(&large), [1, 2, 1], "a single total may have more events than the limit");
    }
}
