//! Looking into memory without a trace: nothing is loaded, no reload is claimed, and nothing counts as used.
//!
//! It is asked for by public id, and memory knows keys by their hash: every record is looked at, which costs about 100 ns each and
//! holds the lock of a shard for one record at a time. An index by id would cost every load, and this is asked by a person.

use super::Cached;
use crate::{
    cache::source::Keys,
    domain::{
        freshness::Use,
        id::KeyId,
        inspect::{HeldRecord, InspectMemory, MemoryOfKey},
        store::Store,
        verdict::Source,
    },
};

impl<S: Store> InspectMemory for Cached<Keys<S>> {
    fn inspect(&self, key: &KeyId) -> MemoryOfKey {
        let pool = &self.0.pool;
        let now = self.0.clock.monotonic();
        // Before the records: a change that is told meanwhile is told of, and the record may be from before it, which shows.
        let heard = pool.fence.heard(key);
        let mut records = 0;
        let found = pool.found.iter().inspect(|_| records += 1).find_map(|(hash, entry)| {
            let is_it = entry.record.as_deref().is_some_and(|record| record.key_id == *key);
            is_it.then_some((Some(hash), entry))
        });
        let found = found.or_else(|| {
            pool.ahead.iter().inspect(|_| records += 1).find_map(|(_, entry)| {
                let is_it = entry.record.as_deref().is_some_and(|record| record.key_id == *key);
                is_it.then_some((None, entry))
            })
        });
        let held = found.and_then(|(hash, entry)| {
            let source = match pool.decide(&entry, now, (self.0.outlook)(now)) {
                Use::Serve(source) | Use::ServeAndReload(source) => source,
                Use::Reload => Source::Database,
            };
            let record = entry.record.clone()?;
            Some(HeldRecord { record, hash, source, age: entry.age(now), revision: entry.revision })
        });
        MemoryOfKey { held, heard, records }
    }
}
