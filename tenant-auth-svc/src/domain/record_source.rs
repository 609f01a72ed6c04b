//! What memory and database tell the use cases.

use std::{future::Future, sync::Arc, time::Instant};

use super::{guess_limiter::LoadContext, store::StoreError, verdict::Provenance};

/// What is known about a key or a session.
#[derive(Debug, PartialEq, Eq)]
pub struct CachedRecord<R> {
    /// The record; `None` when it is known that there is none.
    pub record: Option<Arc<R>>,
    /// What the knowledge is worth.
    pub provenance: Provenance,
}

impl<R> Clone for CachedRecord<R> {
    fn clone(&self) -> Self {
        Self { record: self.record.clone(), provenance: self.provenance }
    }
}

/// Where knowledge about records comes from.
pub trait RecordSource: Send + Sync + 'static {
    /// By what records are found.
    type Id: Send + Sync;
    /// What is found.
    type Record;

    /// What memory says, if it may still be used.
    fn get(&self, id: &Self::Id) -> Option<CachedRecord<Self::Record>>;

    /// Asks for what memory could not say: one outcome per id, in order.
    ///
    /// Each fails with [`StoreError`] when the database gives no complete answer before the deadline, and when it is one guess
    /// too many.
    fn load(
        &self,
        ids: &[Self::Id],
        ask: &LoadContext,
    ) -> impl Future<Output = Vec<Result<CachedRecord<Self::Record>, StoreError>>> + Send;

    /// Asks the database about one record, whatever memory says. Nothing stands in for its answer.
    ///
    /// Fails with [`StoreError`] when the database gives no complete answer before the deadline.
    fn revalidate(
        &self,
        id: &Self::Id,
        deadline: Instant,
    ) -> impl Future<Output = Result<CachedRecord<Self::Record>, StoreError>> + Send;
}
