//! A table of entries that is bounded by their weight.
//!
//! It keeps entries by value: an entry of a key takes about 180 bytes with both indexes, and a lookup reads few cache
//! lines. A second index by public id makes a change of one key a lookup too: the change log names keys by that id, and
//! no other cache that was examined (moka, quick_cache, foyer) has a second index.

use std::hash::{BuildHasher, Hash};

use hashbrown::DefaultHashBuilder;

use super::{
    entry::CacheEntry,
    shard::{Keep, Shard},
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    weight,
};
use crate::domain::{change::CacheableRecord, id::PackedKeyId};

/// Maximum number of shards. A change looks for its key in each of them, and an index that grows is copied under the
/// lock of its shard, so neither few nor many are good.
const MAX_SHARDS: u64 = 128;
/// A shard has at least this capacity, so that a small table evicts only when it is full.
const MIN_SHARD_CAPACITY: u64 = 1_024;
/// How many slots a sweep examines under one lock.
const SWEPT_SLOTS: u32 = 1_024;

/// Entries by id.
pub(super) struct Table<I, R> {
    shards: Box<[RwLock<Shard<I, R>>]>,
    hasher: DefaultHashBuilder,
}

impl<I, R> Table<I, R>
where
    I: Clone + Eq + Hash,
    R: CacheableRecord,
{
    /// Creates a table of up to `capacity` weight units.
    pub(super) fn new(capacity: u64) -> Self {
        let shards = (capacity / MIN_SHARD_CAPACITY).clamp(1, MAX_SHARDS);
        // Rounded up, so that no capacity is lost: together they exceed it by less than one unit each.
        let shards = (0..shards).map(|_| RwLock::new(Shard::new(capacity.div_ceil(shards)))).collect();
        Self { shards, hasher: DefaultHashBuilder::default() }
    }

    /// Returns what `read` makes of an entry. It counts as a use.
    pub(super) fn get<T>(&self, id: &I, read: impl FnOnce(&CacheEntry<R>) -> T) -> Option<T> {
        self.read(id, true, read)
    }

    /// Returns what `read` makes of an entry. It does not count as a use.
    pub(super) fn peek<T>(&self, id: &I, read: impl FnOnce(&CacheEntry<R>) -> T) -> Option<T> {
        self.read(id, false, read)
    }

    pub(super) fn contains(&self, id: &I) -> bool {
        self.peek(id, |_| ()).is_some()
    }

    /// Inserts an entry. Returns how many other entries were evicted for it; itself if it is too large.
    pub(super) fn insert(&self, id: I, id_heap_bytes: usize, entry: CacheEntry<R>) -> u64 {
        let weight = weight::weight_of::<I, R>(id_heap_bytes, &entry.record);
        let hash = self.hasher.hash_one(&id);
        self.shard(hash).map_or(0, |shard| write(shard).insert(&self.hasher, id, entry, weight))
    }

    pub(super) fn remove(&self, id: &I) -> Option<CacheEntry<R>> {
        let hash = self.hasher.hash_one(id);
        write(self.shard(hash)?).remove(&self.hasher, hash, id)
    }

    /// Lets `update` change an entry. Returns whether there is one.
    pub(super) fn update(&self, id: &I, update: impl FnOnce(&mut CacheEntry<R>) -> Keep) -> bool {
        let shard = self.shard(self.hasher.hash_one(id));
        shard.is_some_and(|shard| write(shard).update(&self.hasher, id, update))
    }

    /// Lets `update` change the entries of records with a public id. Returns whether there are any.
    pub(super) fn update_public(
        &self,
        id: &PackedKeyId,
        mut update: impl FnMut(&mut CacheEntry<R>) -> Keep,
    ) -> bool {
        let hash = self.hasher.hash_one(id);
        let mut found = false;
        for shard in &self.shards {
            let is_here = read(shard).find_public(hash, id).next().is_some();
            found |= is_here && write(shard).update_public(&self.hasher, hash, id, &mut update);
        }
        found
    }

    /// Returns what `view` makes of the first entry of a record with a public id for which it returns something.
    pub(super) fn find_public<T>(
        &self,
        id: &PackedKeyId,
        view: impl Fn(&I, &CacheEntry<R>) -> Option<T>,
    ) -> Option<T> {
        let hash = self.hasher.hash_one(id);
        self.shards
            .iter()
            .find_map(|shard| read(shard).find_public(hash, id).find_map(|(id, entry)| view(id, entry)))
    }

    /// Removes the entries that `keep` does not want, with short pauses for others.
    pub(super) fn retain(&self, keep: impl Fn(&CacheEntry<R>) -> bool) {
        for shard in &self.shards {
            let mut start = 0;
            while write(shard).retain(&self.hasher, (start, SWEPT_SLOTS), &keep) {
                start += SWEPT_SLOTS;
            }
        }
    }

    /// Calls `visit` for each entry. Entries that are inserted meanwhile may be missed.
    pub(super) fn for_each(&self, mut visit: impl FnMut(&CacheEntry<R>)) {
        for shard in &self.shards {
            read(shard).iter().for_each(&mut visit);
        }
    }

    /// Returns the number of entries.
    pub(super) fn len(&self) -> u64 {
        self.shards.iter().map(|shard| read(shard).len() as u64).sum()
    }

    /// Returns the weight of all entries.
    #[cfg(test)]
    pub(super) fn weight(&self) -> u64 {
        self.shards.iter().map(|shard| read(shard).weight()).sum()
    }

    fn read<T>(&self, id: &I, is_use: bool, view: impl FnOnce(&CacheEntry<R>) -> T) -> Option<T> {
        let hash = self.hasher.hash_one(id);
        read(self.shard(hash)?).get(hash, id, is_use).map(view)
    }

    fn shard(&self, hash: u64) -> Option<&RwLock<Shard<I, R>>> {
        // Not by the lowest or highest bits, which choose the place within the shard's index.
        let index = (hash >> 20) as u32 as usize % self.shards.len();
        self.shards.get(index)
    }
}

fn read<I, R>(shard: &RwLock<Shard<I, R>>) -> RwLockReadGuard<'_, Shard<I, R>> {
    // A panic under the lock would be a defect of the table itself; what it holds stays bounded by the policy.
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<I, R>(shard: &RwLock<Shard<I, R>>) -> RwLockWriteGuard<'_, Shard<I, R>> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}
