//! Looking into memory without a trace: nothing is loaded, no reload is claimed, and nothing counts as used.
//!
//! It is asked for by public id, and memory knows keys by their hash: every record is looked at, which costs about 100 ns each and
//! holds the lock of a shard for one record at a time. An index by id would cost every load, and this is asked by a person.

use super::RecordCache;
use crate::{
    cache::lookup::KeyLookup,
    domain::{
        cache_policy::CacheDecision,
        id::KeyId,
        inspect::{CachedKeyState, InspectCache, InspectedRecord},
        store::Store,
        verdict::Source,
    },
};

impl<S: Store> InspectCache for RecordCache<KeyLookup<S>> {
    fn inspect(&self, key: &KeyId) -> CachedKeyState {
        let pool = &self.0.pool;
        let now = self.0.clock.monotonic();
        // Before the records: a change that is told meanwhile is told of, and the record may be from before it, which shows.
        let heard = pool.fence.last_change(key);
        let mut records = 0;
        let found = pool.records.iter().inspect(|_| records += 1).find_map(|(hash, entry)| {
            let is_it = entry.record.as_deref().is_some_and(|record| record.key_id == *key);
            is_it.then_some((Some(hash), entry))
        });
        let found = found.or_else(|| {
            pool.preloaded.iter().inspect(|_| records += 1).find_map(|(_, entry)| {
                let is_it = entry.record.as_deref().is_some_and(|record| record.key_id == *key);
                is_it.then_some((None, entry))
            })
        });
        let held = found.and_then(|(hash, entry)| {
            let source = match pool.decide(&entry, now, (self.0.health)(now)) {
                CacheDecision::Serve(source) | CacheDecision::ServeAndReload(source) => source,
                CacheDecision::Reload => Source::Database,
            };
            let record = entry.record.clone()?;
            Some(InspectedRecord { record, hash, source, age: entry.age(now), revision: entry.revision })
        });
        CachedKeyState { cached: held, last_change: heard, records_scanned: records }
    }
}
