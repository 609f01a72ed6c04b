//! The statements about usage, as a store.

use std::time::Duration;

use crate::{
    domain::{
        id::TenantId,
        page::Page,
        store::{Call, StoreError, Unreadable},
        usage::{Claim, Difference, Hour, Kept, SweptEvents, UsageCursor, UsageQuery, UsageStore, UsageSum},
    },
    store::sql::{Engine, SqlStore},
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
        hours: (Hour, Hour),
        limit: usize,
    ) -> Result<Vec<Difference>, StoreError> {
        super::compare(&self.engine, call, tenant, hours, limit).await
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
