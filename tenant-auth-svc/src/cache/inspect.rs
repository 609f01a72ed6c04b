//! Inspects the cache without side effects: nothing is loaded, no reload is claimed, and no use is recorded.
//!
//! The request names a key by its public id, but the cache is indexed by hash. So every record is scanned, at
//! about 100 ns each, with the lock of a shard held for one record at a time. An index by id would add a cost
//! to each load, while inspections are rare and made by people.

use super::RecordCache;
use crate::{
    cache::lookup::KeyLookup,
    domain::{
        cache_policy::CacheDecision,
        id::KeyId,
        inspect::{CachedKeyState, InspectCache, InspectedRecord},
        key::KeyHash,
        store::Store,
        verdict::Source,
    },
};

impl<S: Store> InspectCache for RecordCache<KeyLookup<S>> {
    fn key_id(&self, hash: &KeyHash) -> Option<KeyId> {
        // `peek` does not count as a use.
        let entry = self.0.pool.records.peek(hash)?;
        Some(entry.record.as_ref()?.key_id.clone())
    }

    fn inspect(&self, key: &KeyId) -> CachedKeyState {
        let pool = &self.0.pool;
        let now = self.0.clock.monotonic();
        // Read before the records: a change that is applied meanwhile may then be missing here while the
        // record already reflects it, but never the reverse.
        let last_change = pool.fence.last_change(key);
        let mut scanned = 0;
        let found = pool.records.iter().inspect(|_| scanned += 1).find_map(|(hash, entry)| {
            let is_match = entry.record.as_deref().is_some_and(|record| record.key_id == *key);
            is_match.then_some((Some(hash), entry))
        });
        let found = found.or_else(|| {
            pool.preloaded.iter().inspect(|_| scanned += 1).find_map(|(_, entry)| {
                let is_match = entry.record.as_deref().is_some_and(|record| record.key_id == *key);
                is_match.then_some((None, entry))
            })
        });
        let cached = found.and_then(|(hash, entry)| {
            let source = match pool.decide(&entry, now, (self.0.health)(now)) {
                CacheDecision::Serve(source) | CacheDecision::ServeAndReload(source) => source,
                CacheDecision::Reload => Source::Database,
            };
            let record = entry.record.clone()?;
            Some(InspectedRecord { record, hash, source, age: entry.age(now), revision: entry.revision })
        });
        CachedKeyState { cached, last_change, records_scanned: scanned }
    }
}
