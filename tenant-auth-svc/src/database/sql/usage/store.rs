//! The statements about usage, as a store.

use std::time::Duration;

use super::{compare, repair};
use crate::{
    database::sql::{Engine, SqlStore},
    domain::{
        id::TenantId,
        page::Page,
        store::{Call, Change, StoreError, Unreadable},
        usage::{
            Claim, CompareFrom, Compared, Difference, Hour, Kept, Repaired, SweptEvents, UsageCursor,
            UsageQuery, UsageStore, UsageSum,
        },
    },
};

impl<E: Engine> UsageStore for SqlStore<E> {
    async fn record_usage(
        &self,
        call: Call,
        claims: &[Claim],
    ) -> Result<Vec<Result<Kept, Unreadable>>, StoreError> {
        super::record(&self.engine, &self.unreadable, call, claims).await
    }

    async fn sum_usage(
        &self,
        call: Call,
        query: &UsageQuery,
    ) -> Result<Option<Page<UsageSum, UsageCursor>>, StoreError> {
        super::sum(&self.engine, &self.unreadable, call, query).await
    }

    async fn compare_usage(
        &self,
        call: Call,
        tenant: &TenantId,
        hours: (&CompareFrom, Hour),
        retention: Duration,
        limit: usize,
    ) -> Result<Compared, StoreError> {
        compare::run(&self.engine, call, tenant, hours, retention, limit).await
    }

    async fn usage_complete_from(&self, call: Call, retention: Duration) -> Result<Hour, StoreError> {
        compare::complete_from(&self.engine, call, retention).await
    }

    async fn repair_usage(
        &self,
        call: Call,
        differences: &[Difference],
        retention: Duration,
        change: &Change,
    ) -> Result<Vec<Repaired>, StoreError> {
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
