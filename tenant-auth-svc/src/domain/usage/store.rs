//! The storage interface of usage recording.

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

/// The result of one statement that deletes events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweptEvents {
    /// Number of events deleted.
    pub deleted: usize,
    /// The last tenant checked, as stored; `None` when there are no further tenants.
    pub last_tenant: Option<String>,
}

/// The database, as usage recording needs it.
///
/// Every change is one transaction that is safe to repeat. Every method fails with [`StoreError`] when the
/// database returns no complete result.
pub trait UsageStore: Send + Sync + 'static {
    /// Stores writes with distinct ids in one transaction. A write takes effect if its id is new for its
    /// caller. Returns the stored outcome of each, in order; an unreadable one is an error of that entry
    /// only.
    ///
    /// A write or a stored record without a caller matches any caller: if the other one has the same id, or
    /// stored it for the same events, the id is not new. So a repeated request is counted once even if
    /// callers were given names in between, or a build without caller names stored the first attempt.
    fn record_usage(
        &self,
        call: Call,
        claims: &[IdempotentWrite],
    ) -> impl Future<Output = Result<Vec<Result<StoredOutcome, UnreadableRecord>>, StoreError>> + Send;

    /// Returns sums by bucket, then by metric; `None` when there is no such tenant.
    fn sum_usage(
        &self,
        call: Call,
        query: &UsageQuery,
    ) -> impl Future<Output = Result<Option<Page<UsageSum, UsageCursor>>, StoreError>> + Send;

    /// Compares a tenant's totals with the sums of its events, both read at the same time: for one day that
    /// starts with the first hour with data, within the hours from `hours.0` and before `hours.1`; up to
    /// `limit` differences.
    ///
    /// Hours whose events were partly deleted are skipped: their totals are right, and the sums of their
    /// events are not. These are the hours older than the retention, and older than the oldest remaining
    /// request, by the database's clock, with a margin of one hour, since an event may be slightly ahead of its
    /// request. The second rule holds for any earlier retention.
    fn compare_usage(
        &self,
        call: Call,
        tenant: &TenantId,
        hours: (&ComparisonCursor, Hour),
        retention: Duration,
        limit: usize,
    ) -> impl Future<Output = Result<ComparisonPage, StoreError>> + Send;

    /// Returns the first hour that [`compare_usage`](Self::compare_usage) does not skip.
    fn first_complete_hour(
        &self,
        call: Call,
        retention: Duration,
    ) -> impl Future<Output = Result<Hour, StoreError>> + Send;

    /// Sets totals of one tenant to the sums of their events, and writes an audit entry for each, in one
    /// transaction, so that no event committed before or after it is lost. The database computes the sums in that
    /// transaction. Totals that are right by then, and hours that [`compare_usage`](Self::compare_usage) skips,
    /// stay unchanged. Returns the changed totals, read from the audit entries with the request id of `change`,
    /// which must be new for each call; so a repeated transaction returns the same result.
    fn repair_usage(
        &self,
        call: Call,
        differences: &[TotalDifference],
        retention: Duration,
        change: &Change,
    ) -> impl Future<Output = Result<Vec<RepairedTotal>, StoreError>> + Send;

    /// Deletes up to `limit` requests that first arrived longer ago than the retention, by the database's
    /// clock. Returns how many.
    fn sweep_requests(
        &self,
        call: Call,
        retention: Duration,
        limit: usize,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Deletes up to `limit` events of hours older than the retention, of up to `limit` tenants after the
    /// given one, if their requests are deleted, too: otherwise a repeated request would not find its events
    /// and would count them again. Totals are kept.
    fn sweep_events(
        &self,
        call: Call,
        retention: Duration,
        after: Option<&str>,
        limit: usize,
    ) -> impl Future<Output = Result<SweptEvents, StoreError>> + Send;
}
