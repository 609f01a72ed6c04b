//! The source of key and session records for the use cases.

use std::{future::Future, time::Instant};

use super::{store::StoreError, unknown_lookup_limiter::LoadContext, verdict::Provenance};

/// The cached state of a key or a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedRecord<R> {
    /// The record; `None` when it is known not to exist.
    pub record: Option<R>,
    /// Source, age and reuse of the record.
    pub provenance: Provenance,
}

/// A source of records.
pub trait RecordSource: Send + Sync + 'static {
    /// The id that records are looked up by.
    type Id: Send + Sync;
    /// The record. Cheap to clone: an answer contains one.
    type Record;

    /// Returns the cached record, if it may still be served.
    fn get(&self, id: &Self::Id) -> Option<CachedRecord<Self::Record>>;

    /// Loads records that are not cached; one outcome per id, in order.
    ///
    /// Each fails with [`StoreError`] when the database returns no complete result before the deadline, or
    /// the limit of unknown lookups is reached.
    fn load(
        &self,
        ids: &[Self::Id],
        context: &LoadContext,
    ) -> impl Future<Output = Vec<Result<CachedRecord<Self::Record>, StoreError>>> + Send;

    /// Reads one record from the database even if it is cached. A stale record is never returned instead.
    ///
    /// Fails with [`StoreError`] when the database returns no complete result before the deadline.
    fn revalidate(
        &self,
        id: &Self::Id,
        deadline: Instant,
    ) -> impl Future<Output = Result<CachedRecord<Self::Record>, StoreError>> + Send;
}
