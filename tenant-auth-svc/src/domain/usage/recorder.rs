//! The use cases of usage recording.

use std::{future::Future, time::Instant};

use thiserror::Error;

use super::{
    EventRefusal, IdempotentWrite, RecordedUsage, StoredOutcome, UsageCursor, UsageQuery, UsageRequest,
    UsageRequestId, UsageStore, UsageSum,
};
use crate::domain::{
    clock::SharedClock,
    id::TenantId,
    page::Page,
    store::{Call, Lane, StoreError},
};

/// Why usage was not recorded or returned.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum UsageError {
    /// The caller used the id for other events.
    #[error("request_id {:?} was used for other events", .0.as_str())]
    PayloadMismatch(UsageRequestId),
    /// Too many events wait to be committed. Nothing of the request was recorded.
    #[error("too many events wait to be committed")]
    QueueFull,
    /// The replica is stopping. Nothing of the request was recorded.
    #[error("this replica is stopping")]
    Stopping,
    /// There is no such tenant.
    #[error("there is no tenant {0}")]
    NoSuchTenant(TenantId),
    /// One event can never be counted; the others are.
    #[error("the event {0}")]
    Refused(EventRefusal),
    /// The database call failed. The request may have been recorded all the same; repeating it is safe.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Stores usage requests, many in one transaction.
pub trait UsageWriter: Send + Sync + 'static {
    /// Returns the outcome stored under the id of the write after it is committed. If the caller stops
    /// waiting, the write may still be committed.
    fn write(
        &self,
        write: IdempotentWrite,
        deadline: Instant,
    ) -> impl Future<Output = Result<StoredOutcome, UsageError>> + Send;
}

/// Records and queries usage.
#[derive(Debug)]
pub struct UsageRecorder<R, S> {
    writer: R,
    store: S,
    clock: SharedClock,
}

impl<R: UsageWriter, S: UsageStore> UsageRecorder<R, S> {
    /// Creates the use case: `writer` records usage, and sums are read from `store`.
    pub fn new(writer: R, store: S, clock: SharedClock) -> Self {
        Self { writer, store, clock }
    }

    /// Records a request. `Ok` means that it is committed, by this call or an earlier one with the same id.
    ///
    /// # Errors
    /// [`UsageError::PayloadMismatch`], [`UsageError::QueueFull`] and [`UsageError::Stopping`]: nothing was
    /// recorded. [`UsageError::Store`]: it may have been recorded; repeating it is safe.
    pub async fn record(
        &self,
        request: UsageRequest,
        deadline: Instant,
    ) -> Result<RecordedUsage, UsageError> {
        let write = IdempotentWrite::new(&request, self.clock.now());
        self.writer.write(write, deadline).await?.into_recorded(&request)
    }

    /// Returns sums of a tenant's usage.
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
