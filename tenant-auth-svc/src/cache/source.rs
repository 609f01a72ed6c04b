//! What can be looked up by id and remembered, one kind each.

use std::{fmt::Debug, future::Future, hash::Hash, sync::Arc};

use crate::domain::{
    change::Record,
    key::{KeyHash, KeyRecord, Peppers},
    session::{SessionId, SessionRecord},
    store::{Call, Found, Store, StoreError},
    used::Uses,
};

/// How one kind of record is looked up.
pub trait Lookup: Send + Sync + 'static {
    /// By what it is found.
    type Id: Clone + Debug + Eq + Hash + Ord + Send + Sync + 'static;
    /// What is found.
    type Record: Record<Id = Self::Id>;

    /// Finds up to [`MAX_LOOKUP`](crate::domain::store::MAX_LOOKUP) records in one statement.
    ///
    /// Fails with [`StoreError`] when the database gives no complete answer.
    fn lookup(
        &self,
        call: Call,
        ids: &[Self::Id],
    ) -> impl Future<Output = Result<Found<Self::Record>, StoreError>> + Send;

    /// The digests under which the database may know it: by them it is found among what was read ahead.
    fn digests(&self, id: &Self::Id) -> Vec<[u8; 32]>;

    /// A number drawn by the id: the same on every run, and spread evenly over ids.
    fn drawn(id: &Self::Id) -> u8;

    /// Is told of each record that was read because somebody asked for it.
    fn used(&self, record: &Self::Record);
}

/// Sessions, by their id.
#[derive(Debug)]
pub struct Sessions<S>(S);

impl<S: Store> Sessions<S> {
    /// Looks sessions up in `store`.
    pub fn new(store: S) -> Self {
        Self(store)
    }
}

impl<S: Store> Lookup for Sessions<S> {
    type Id = SessionId;
    type Record = SessionRecord;

    async fn lookup(&self, call: Call, ids: &[SessionId]) -> Result<Found<SessionRecord>, StoreError> {
        self.0.lookup_sessions(call, ids).await
    }

    fn digests(&self, _: &SessionId) -> Vec<[u8; 32]> {
        // Sessions are not read ahead.
        Vec::new()
    }

    fn drawn(id: &SessionId) -> u8 {
        id.as_str().bytes().fold(0, |drawn, byte| drawn.wrapping_mul(31).wrapping_add(byte))
    }

    fn used(&self, _: &SessionRecord) {
        // Whether it was used is known once it is judged.
    }
}

/// Keys, by their SHA-256.
#[derive(Debug)]
pub struct Keys<S> {
    store: S,
    peppers: Arc<Peppers>,
    uses: Arc<Uses>,
}

impl<S: Store> Keys<S> {
    /// Looks keys up in `store`, where digests are made with `peppers`; `uses` is told which ones are in use.
    pub fn new(store: S, peppers: Arc<Peppers>, uses: Arc<Uses>) -> Self {
        Self { store, peppers, uses }
    }
}

impl<S: Store> Lookup for Keys<S> {
    type Id = KeyHash;
    type Record = KeyRecord;

    async fn lookup(&self, call: Call, ids: &[KeyHash]) -> Result<Found<KeyRecord>, StoreError> {
        self.store.lookup_keys(call, ids).await
    }

    fn digests(&self, id: &KeyHash) -> Vec<[u8; 32]> {
        self.peppers.candidates(id).map(|candidate| candidate.digest).collect()
    }

    fn drawn(id: &KeyHash) -> u8 {
        let [.., drawn] = *id.as_bytes();
        drawn
    }

    fn used(&self, record: &KeyRecord) {
        self.uses.note(record);
    }
}
