//! What can be looked up by id and remembered, one kind each.

use std::{fmt::Debug, future::Future, hash::Hash, sync::Arc};

use crate::domain::{
    change::CacheableRecord,
    key::{KeyHash, KeyRecord, Peppers},
    last_used::LastUsedTracker,
    session::{SessionId, SessionRecord},
    store::{Call, LookupResult, Store, StoreError},
};

/// How one kind of record is looked up.
pub trait Lookup: Send + Sync + 'static {
    /// By what it is found.
    type Id: Clone + Debug + Eq + Hash + Ord + Send + Sync + 'static;
    /// What is found.
    type Record: CacheableRecord<Id = Self::Id>;

    /// Finds up to [`MAX_IDS_PER_LOOKUP`](crate::domain::store::MAX_LOOKUP) records in one statement.
    ///
    /// Fails with [`StoreError`] when the database gives no complete answer.
    fn lookup(
        &self,
        call: Call,
        ids: &[Self::Id],
    ) -> impl Future<Output = Result<LookupResult<Self::Record>, StoreError>> + Send;

    /// The digests under which the database may know it: by them it is found among what was read ahead.
    fn digests(&self, id: &Self::Id) -> Vec<[u8; 32]>;

    /// A number drawn by the id: the same on every run, and spread evenly over ids.
    fn jitter_seed(id: &Self::Id) -> u8;

    /// Is told of each record that was read because somebody asked for it.
    fn on_loaded(&self, record: &Self::Record);
}

/// Sessions, by their id.
#[derive(Debug)]
pub struct SessionLookup<S>(S);

impl<S: Store> SessionLookup<S> {
    /// Looks sessions up in `store`.
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
        // Sessions are not read ahead.
        Vec::new()
    }

    fn jitter_seed(id: &SessionId) -> u8 {
        id.as_str().bytes().fold(0, |drawn, byte| drawn.wrapping_mul(31).wrapping_add(byte))
    }

    fn on_loaded(&self, _: &SessionRecord) {
        // Whether it was used is known once it is judged.
    }
}

/// Keys, by their SHA-256.
#[derive(Debug)]
pub struct KeyLookup<S> {
    store: S,
    peppers: Arc<Peppers>,
    last_used: Arc<LastUsedTracker>,
}

impl<S: Store> KeyLookup<S> {
    /// Looks keys up in `store`, where digests are made with `peppers`; `check_last_used` is told which ones are in use.
    pub fn new(store: S, peppers: Arc<Peppers>, uses: Arc<LastUsedTracker>) -> Self {
        Self { store, peppers, last_used: uses }
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
        let [.., drawn] = *id.as_bytes();
        drawn
    }

    fn on_loaded(&self, record: &KeyRecord) {
        self.last_used.record_use(record);
    }
}
