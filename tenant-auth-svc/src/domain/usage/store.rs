//! What metering needs of a database.

use std::future::Future;

use super::{Claim, Difference, Hour, Kept, UsageCursor, UsageQuery, UsageSum};
use crate::domain::{
    clock::UnixMillis,
    id::TenantId,
    page::Page,
    store::{Call, StoreError, Unreadable},
};

/// The database, as metering sees it.
///
/// Every change is one transaction that is safe to repeat. Every method fails with [`StoreError`] when the database gives
/// no complete answer.
pub trait UsageStore: Send + Sync + 'static {
    /// Writes down claims whose ids differ, in one transaction: what one of them says counts if its id is new. Gives what
    /// is kept under each id, in order: what cannot be read is an error by itself.
    fn record_usage(
        &self,
        call: Call,
        claims: &[Claim],
    ) -> impl Future<Output = Result<Vec<Result<Kept, Unreadable>>, StoreError>> + Send;

    /// Sums by bucket, then by metric; `None` when there is no such tenant.
    fn sum_usage(
        &self,
        call: Call,
        query: &UsageQuery,
    ) -> impl Future<Output = Result<Option<Page<UsageSum, UsageCursor>>, StoreError>> + Send;

    /// Compares a tenant's totals with the sums of its events, at one moment: the hours from `start` and before `end`,
    /// up to `limit` differences.
    fn compare_usage(
        &self,
        call: Call,
        tenant: &TenantId,
        hours: (Hour, Hour),
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Difference>, StoreError>> + Send;

    /// Forgets up to `limit` events of hours before `before`, and as many requests first seen before it. Gives how many
    /// went, of whichever was more. Totals stay.
    fn sweep_usage(
        &self,
        call: Call,
        before: UnixMillis,
        limit: usize,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send;
}
