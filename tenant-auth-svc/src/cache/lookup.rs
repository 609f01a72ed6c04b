//! The kinds of records that can be looked up by id and cached.

use std::{fmt::Debug, future::Future, hash::Hash, sync::Arc};

use crate::domain::{
    change::CacheableRecord,
    key::{KeyHash, KeyRecord, Peppers},
    last_used::LastUsedTracker,
    session::{SessionId, SessionRecord},
    store::{Call, LookupResult, Store, StoreError},
};

/// Looks up one kind of record.
pub trait Lookup: Send + Sync + 'static {
    /// The id that a record is looked up by.
    type Id: Clone + Debug + Eq + Hash + Ord + Send + Sync + 'static;
    /// The record.
    type Record: CacheableRecord<Id = Self::Id>;

    /// Looks up to [`MAX_IDS_PER_LOOKUP`](crate::domain::store::MAX_IDS_PER_LOOKUP) records up in one
    /// statement.
    ///
    /// Fails with [`StoreError`] when the database returns no complete result.
    fn lookup(
        &self,
        call: Call,
        ids: &[Self::Id],
    ) -> impl Future<Output = Result<LookupResult<Self::Record>, StoreError>> + Send;

    /// Returns the digests under which the database may store the record. Preloaded records are found by
    /// them.
    fn digests(&self, id: &Self::Id) -> Vec<[u8; 32]>;

    /// Returns a number derived from the id: the same in every process, evenly distributed over ids.
    fn jitter_seed(id: &Self::Id) -> u8;

    /// Called for each record that was loaded for a request.
    fn on_loaded(&self, record: &Self::Record);
}

/// Looks sessions up by their id.
#[derive(Debug)]
pub struct SessionLookup<S>(S);

impl<S: Store> SessionLookup<S> {
    /// Creates a lookup in `store`.
    pub fn new(store: S) -> Self {
        Self(store)
    }
}

impl<S: Store> Lookup for SessionLookup<S> {
    type Id = SessionId;
    type Record = SessionRecord;

    async fn lookup(&self, call: Call, ids: &[SessionId]) -> Result<LookupResult<SessionRecord>, StoreError> {
        self.0.lookup_sessions(call, ids).await
    }

    fn digests(&self, _: &SessionId) -> Vec<[u8; 32]> {
        // Sessions are not preloaded.
        Vec::new()
    }

    fn jitter_seed(id: &SessionId) -> u8 {
        id.as_str().bytes().fold(0, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte))
    }

    fn on_loaded(&self, _: &SessionRecord) {
        // A session counts as used when a validation of it succeeds, which is not known here.
    }
}

/// Looks keys up by their SHA-256.
#[derive(Debug)]
pub struct KeyLookup<S> {
    store: S,
    peppers: Arc<Peppers>,
    last_used: Arc<LastUsedTracker>,
}

impl<S: Store> KeyLookup<S> {
    /// Creates a lookup in `store` with digests made with `peppers`. Loaded keys are recorded in `last_used`.
    pub fn new(store: S, peppers: Arc<Peppers>, last_used: Arc<LastUsedTracker>) -> Self {
        Self { store, peppers, last_used }
    }
}

impl<S: Store> Lookup for KeyLookup<S> {
    type Id = KeyHash;
    type Record = KeyRecord;

    async fn lookup(&self, call: Call, ids: &[KeyHash]) -> Result<LookupResult<KeyRecord>, StoreError> {
        self.store.lookup_keys(call, ids).await
    }

    fn digests(&self, id: &KeyHash) -> Vec<[u8; 32]> {
        self.peppers.candidates(id).map(|candidate| candidate.digest).collect()
    }

    fn jitter_seed(id: &KeyHash) -> u8 {
        let [.., seed] = *id.as_bytes();
        seed
    }

    fn on_loaded(&self, record: &KeyRecord) {
        self.last_used.record_use(record);
    }
}
