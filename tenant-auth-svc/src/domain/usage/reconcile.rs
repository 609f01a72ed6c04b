//! Comparing totals with the sums of their events, and repairing those that differ.
//!
//! A total is made of events by a trigger, in the transaction of each event. It differs only if somebody else has written to
//! either table: a shell, a partial copy of another database.

use std::collections::VecDeque;

use super::{Hour, UsageMetric, UsageRetention, UsageStore};
use crate::domain::{
    id::TenantId,
    page::{PageRequest, PageSize},
    store::{Call, Store, StoreError},
};

/// How many differences one page tells at most.
const MAX_DIFFERENCES_PER_PAGE: usize = 1_000;
/// How many totals one transaction repairs at most.
const MAX_TOTALS_PER_REPAIR: usize = 100;
/// How many events one transaction that repairs adds up, about: nobody else writes meanwhile. One total may have more.
const MAX_EVENTS_PER_REPAIR: u64 = 50_000;

/// A total that is not the sum of its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TotalDifference {
    /// The tenant.
    pub tenant_id: TenantId,
    /// The hour.
    pub hour: Hour,
    /// The metric.
    pub metric: UsageMetric,
    /// What the total says; 0 when there is none.
    pub total: i64,
    /// What its events add up to.
    pub events: i64,
    /// How many rows of events were added up.
    pub rows: u64,
}

/// A total that was set to the sum of its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairedTotal {
    /// The hour.
    pub hour: Hour,
    /// The metric.
    pub metric: UsageMetric,
    /// What the total said; 0 when there was none.
    pub before: i64,
    /// What it says now.
    pub after: i64,
}

/// Where a comparison of one tenant goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComparisonCursor {
    /// From this hour on.
    pub hour: Hour,
    /// Of this hour, only metrics after this one.
    pub after: Option<UsageMetric>,
}

/// What one page of a comparison found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComparisonPage {
    /// Totals that differ, by hour, then by metric.
    pub differences: Vec<TotalDifference>,
    /// Where the next page starts; `None` when the tenant has nothing after this one.
    pub next: Option<ComparisonCursor>,
}

/// Compares the totals of one tenant or of all, page by page.
#[derive(Debug)]
pub struct Reconciliation<'a, S> {
    store: &'a S,
    hours: (Hour, Hour),
    retention: UsageRetention,
    /// Tenants that were listed and are not compared yet.
    pending_tenants: VecDeque<TenantId>,
    /// Where the list of tenants goes on.
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
    /// Begins with the hours from the first and before the second.
    ///
    /// # Errors
    /// When the database gives no answer about the one tenant that is named.
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

    /// How many tenants were compared to their end.
    #[must_use]
    pub fn compared_tenants(&self) -> usize {
        self.compared_count
    }

    /// The differences of the next page that has any, all of one tenant; `None` at the end.
    ///
    /// # Errors
    /// When the database gives no answer; the next call asks for the same page again.
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

/// Cuts differences into what one transaction repairs: those of one tenant, of a bounded number of events.
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
        assert_eq!(sizes(&large), [1, 2, 1], "one total may have more than the bound");
    }
}
