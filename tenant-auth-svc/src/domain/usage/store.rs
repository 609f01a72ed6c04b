//! What metering needs of a database.

use std::{future::Future, time::Duration};

use super::{
    ComparisonCursor, ComparisonPage, Hour, IdempotentWrite, RepairedTotal, StoredOutcome, TotalDifference,
    UsageCursor, UsageQuery, UsageSum,
};
use crate::domain::{
    id::TenantId,
    page::Page,
    store::{Call, Change, StoreError, UnreadableRecord},
};

/// What one statement has forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweptEvents {
    /// How many events.
    pub deleted: usize,
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
        claims: &[IdempotentWrite],
    ) -> impl Future<Output = Result<Vec<Result<StoredOutcome, UnreadableRecord>>, StoreError>> + Send;

    /// Sums by bucket, then by metric; `None` when there is no such tenant.
    fn sum_usage(
        &self,
        call: Call,
        query: &UsageQuery,
    ) -> impl Future<Output = Result<Option<Page<UsageSum, UsageCursor>>, StoreError>> + Send;

    /// Compares a tenant's totals with the sums of its events, both at one moment: of the hours from `from` and before `end`,
    /// one day, which begins with the first hour that has anything; up to `limit` differences.
    ///
    /// Hours whose events are not all kept any more are passed over: their totals are right, and the events are not. Those are
    /// the hours older than the retention, and older than the oldest request that is left, by the database's clock: with an
    /// hour to spare, since an event may be a little ahead of its request. The second holds whatever the retention was before.
    fn compare_usage(
        &self,
        call: Call,
        tenant: &TenantId,
        hours: (&ComparisonCursor, Hour),
        retention: Duration,
        limit: usize,
    ) -> impl Future<Output = Result<ComparisonPage, StoreError>> + Send;

    /// The first hour that [`compare_usage`](Self::compare_usage) does not pass over.
    fn first_complete_hour(
        &self,
        call: Call,
        retention: Duration,
    ) -> impl Future<Output = Result<Hour, StoreError>> + Send;

    /// Sets totals of one tenant to the sums of their events, and writes an entry of the audit log for each, in one
    /// transaction: no event that is committed before or after it is lost. The sums are made by the database there and then;
    /// totals that are right by then, and hours that [`compare_usage`](Self::compare_usage) passes over, are left as they are.
    /// Gives what was changed, by what the audit log says under the request id of `change`, which must be a new one each time:
    /// so a transaction that is sent again tells the same.
    fn repair_usage(
        &self,
        call: Call,
        differences: &[TotalDifference],
        retention: Duration,
        change: &Change,
    ) -> impl Future<Output = Result<Vec<RepairedTotal>, StoreError>> + Send;

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
