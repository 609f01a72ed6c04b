//! The use cases of metering.

use std::{future::Future, time::Instant};

use super::{
    IdempotentWrite, RecordedUsage, StoredOutcome, UsageCursor, UsageError, UsageQuery, UsageRequest,
    UsageStore, UsageSum,
};
use crate::domain::{
    clock::SharedClock,
    page::Page,
    store::{Call, Lane},
};

/// Writes claims down, many in one transaction.
pub trait UsageWriter: Send + Sync + 'static {
    /// Gives what is kept under the claim's id once it is committed. Whoever stops waiting stops nothing: the claim may
    /// still be committed.
    fn write(
        &self,
        claim: IdempotentWrite,
        deadline: Instant,
    ) -> impl Future<Output = Result<StoredOutcome, UsageError>> + Send;
}

/// Records and sums usage.
#[derive(Debug)]
pub struct UsageRecorder<R, S> {
    writer: R,
    store: S,
    clock: SharedClock,
}

impl<R: UsageWriter, S: UsageStore> UsageRecorder<R, S> {
    /// Records with `recorder`, sums what is in `store`.
    pub fn new(recorder: R, store: S, clock: SharedClock) -> Self {
        Self { writer: recorder, store, clock }
    }

    /// Records a request. `Ok` means that it is committed, by this call or by an earlier one with its id.
    ///
    /// # Errors
    /// [`UsageError::PayloadMismatch`], [`UsageError::QueueFull`] and [`UsageError::Stopping`]: nothing was recorded.
    /// [`UsageError::Store`]: it may have been; repeating it is safe.
    pub async fn record(
        &self,
        request: UsageRequest,
        deadline: Instant,
    ) -> Result<RecordedUsage, UsageError> {
        let claim = IdempotentWrite::new(&request, self.clock.now());
        self.writer.write(claim, deadline).await?.into_recorded(&request)
    }

    /// Sums a tenant's usage.
    ///
    /// # Errors
    /// [`UsageError::NoSuchTenant`]; [`UsageError::Store`].
    pub async fn query(
        &self,
        query: UsageQuery,
        deadline: Instant,
    ) -> Result<Page<UsageSum, UsageCursor>, UsageError> {
        let sums = self.store.sum_usage(Call::until(Lane::Usage, deadline), &query).await?;
        sums.ok_or(UsageError::NoSuchTenant(query.tenant_id))
    }
}
