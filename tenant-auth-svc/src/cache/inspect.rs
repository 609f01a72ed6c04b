//! Inspects the cache without side effects: nothing is loaded, no reload is claimed, and no use is recorded.
//!
//! The request names a key by its public id, by which the tables have an index.

use super::{
    RecordCache,
    entry::{CacheEntry, ReadPoint},
};
use crate::{
    cache::lookup::KeyLookup,
    domain::{
        cache_policy::CacheDecision,
        change::CacheableRecord as _,
        id::{KeyId, PackedKeyId},
        inspect::{CachedKeyState, InspectCache, InspectedRecord},
        key::{KeyHash, KeyRecord},
        store::Store,
        verdict::Source,
    },
};

impl<S: Store> InspectCache for RecordCache<KeyLookup<S>> {
    fn key_id(&self, hash: &KeyHash) -> Option<KeyId> {
        // `peek` does not count as a use.
        self.0.pool.records.peek(hash, |entry| entry.record.key_id.unpack())
    }

    fn inspect(&self, key: &KeyId) -> CachedKeyState {
        let pool = &self.0.pool;
        let now = self.0.clock.monotonic();
        // Read before the records: a change that is applied meanwhile may then be missing here while the
        // record already reflects it, but never the reverse.
        let last_change = pool.fence.last_change(key);
        let id = PackedKeyId::from(key);
        let view = |hash: &KeyHash, entry: &CacheEntry<KeyRecord>| {
            let (decision, revocations) = pool.decide(entry, now, (self.0.health)(now))?;
            let source = match decision {
                CacheDecision::Serve(source) | CacheDecision::ServeAndReload(source) => source,
                CacheDecision::Reload => Source::Database,
            };
            let mut record = entry.record.clone();
            revocations.iter().for_each(|kind| record.apply_revocation(*kind));
            let ReadPoint { revision, .. } = entry.read;
            // A preloaded entry may be stored under the digest of the key with a pepper.
            let hash = (!entry.is_unused_preload()).then_some(*hash);
            Some(InspectedRecord { record, hash, source, age: entry.read.age(now), revision })
        };
        let cached = pool.records.find_public(&id, view);
        CachedKeyState { cached, last_change, records: pool.records.len() }
    }
}
