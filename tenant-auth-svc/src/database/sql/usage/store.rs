//! The usage statements as a store.

use std::time::Duration;

use super::{compare, repair};
use crate::{
    database::sql::{Engine, SqlStore},
    domain::{
        id::TenantId,
        page::Page,
        store::{Call, Change, StoreError, UnreadableRecord},
        usage::{
            ComparisonCursor, ComparisonPage, Hour, IdempotentWrite, RepairedTotal, StoredOutcome,
            SweptEvents, TotalDifference, UsageCursor, UsageQuery, UsageStore, UsageSum,
        },
    },
};

impl<E: Engine> UsageStore for SqlStore<E> {
    async fn record_usage(
        &self,
        call: Call,
        writes: &[IdempotentWrite],
    ) -> Result<Vec<Result<StoredOutcome, UnreadableRecord>>, StoreError> {
        super::record(&self.engine, &self.unreadable_records, call, writes).await
    }

    async fn sum_usage(
        &self,
        call: Call,
        query: &UsageQuery,
    ) -> Result<Option<Page<UsageSum, UsageCursor>>, StoreError> {
        super::sum(&self.engine, &self.unreadable_records, call, query).await
    }

    async fn compare_usage(
        &self,
        call: Call,
        tenant: &TenantId,
        hours: (&ComparisonCursor, Hour),
        retention: Duration,
        limit: usize,
    ) -> Result<ComparisonPage, StoreError> {
        compare::run(&self.engine, call, tenant, hours, retention, limit).await
    }

    async fn first_complete_hour(&self, call: Call, retention: Duration) -> Result<Hour, StoreError> {
        compare::first_complete_hour(&self.engine, call, retention).await
    }

    async fn repair_usage(
        &self,
        call: Call,
        differences: &[TotalDifference],
        retention: Duration,
        change: &Change,
    ) -> Result<Vec<RepairedTotal>, StoreError> {
        repair::run(&self.engine, call, differences, retention, change).await
    }

    async fn sweep_requests(
        &self,
        call: Call,
        retention: Duration,
        limit: usize,
    ) -> Result<usize, StoreError> {
        super::sweep_requests(&self.engine, call, retention, limit).await
    }

    async fn sweep_events(
        &self,
        call: Call,
        retention: Duration,
        after: Option<&str>,
        limit: usize,
    ) -> Result<SweptEvents, StoreError> {
        super::sweep_events(&self.engine, call, retention, after, limit).await
    }
}
