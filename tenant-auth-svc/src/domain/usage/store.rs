//! What metering needs of a database.

use std::{future::Future, time::Duration};

use super::{Claim, Difference, Hour, Kept, UsageCursor, UsageQuery, UsageSum};
use crate::domain::{
    id::TenantId,
    page::Page,
    store::{Call, StoreError, Unreadable},
};

/// What one statement has forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweptEvents {
    /// How many events.
    pub events: usize,
    /// The last tenant that was looked at, as stored; `None` when there are no more after it.
    pub last_tenant: Option<String>,
}

/// The database, as metering sees it.
///
/// Every change is one transaction that is safe to repeat. Every method fails with [`StoreError`] when the database gives
/// no complete answer.
pub trait UsageStore: Send + Sync + 'static {
    /// Writes down claims whose ids differ, in one transaction: what one of them says counts if its id is new to its
    /// caller. Gives what is kept for each, in order: what cannot be read is an error by itself.
    ///
    /// A claim without a caller, and a record without one, stand for any: an id that the one finds taken, or that was taken
    /// by the other for the same events, is not new. So a request that is sent again is counted once also where callers were
    /// given their names in between, or its first attempt went to a build that did not write them down.
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

    /// Forgets up to `limit` requests that were first seen longer ago than the retention, by the database's clock. How many.
    fn sweep_requests(
        &self,
        call: Call,
        retention: Duration,
        limit: usize,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Forgets up to `limit` events of hours longer ago than the retention, of as many tenants after the given one, where
    /// their requests are forgotten too: a request sent again must not find its events gone and count them anew. Totals stay.
    fn sweep_events(
        &self,
        call: Call,
        retention: Duration,
        after: Option<&str>,
        limit: usize,
    ) -> impl Future<Output = Result<SweptEvents, StoreError>> + Send;
}
