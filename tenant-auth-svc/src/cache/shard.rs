//! One shard of a table: entries in slots of one size, two indexes of them, and the order of eviction.
//!
//! Eviction is CLOCK with a small count of uses (GCLOCK): a hand passes over the slots and evicts the first entry that
//! was not used since it last passed, so a scan of many keys does not evict those in constant use.

use std::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashTable};

use super::{
    entry::{CacheEntry, ClockState},
    sync::{AtomicU8, Ordering},
};
use crate::domain::{change::CacheableRecord, id::PackedKeyId};

/// Slots that are allocated together: a shard grows without moving its entries. So many that the addresses of all blocks
/// stay in the processor's cache, and so few that little of the last block is unused.
const BLOCK_SLOTS: usize = 128;
/// Entries for which a shard has room in its indexes from the start.
const MAX_RESERVED_ENTRIES: usize = 1 << 20;
/// How often the hand passes an entry that was used as often, or more often, since the last time.
const MAX_USES: u8 = 2;

/// What to do with an entry that was examined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    Yes,
    No,
}

/// An entry with its id.
struct Slot<I, R> {
    id: I,
    entry: CacheEntry<R>,
}

type Block<I, R> = Vec<Option<Slot<I, R>>>;

/// A part of the entries of a table.
pub(super) struct Shard<I, R> {
    /// A block has room for all its slots from the start, and what was never used is not resident.
    blocks: Vec<Block<I, R>>,
    /// Number of slots that were ever used.
    slots: u32,
    by_id: HashTable<u32>,
    /// Entries by the public id of their record, for records that changes name by it.
    by_public_id: HashTable<u32>,
    free: Vec<u32>,
    /// The slot that the hand examines next.
    hand: u32,
    weight: u64,
    capacity: u64,
}

impl<I: Eq + Hash, R: CacheableRecord> Shard<I, R> {
    /// Creates a shard of up to `capacity` weight units. Its indexes have their final size: they never grow under the lock,
    /// and leave no freed memory behind.
    pub(super) fn new(capacity: u64) -> Self {
        let entries = usize::try_from(capacity).unwrap_or(usize::MAX).min(MAX_RESERVED_ENTRIES);
        let public_ids = if R::HAS_PUBLIC_ID { entries } else { 0 };
        Self {
            blocks: Vec::new(),
            slots: 0,
            by_id: HashTable::with_capacity(entries),
            by_public_id: HashTable::with_capacity(public_ids),
            free: Vec::new(),
            hand: 0,
            weight: 0,
            capacity,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    #[cfg(test)]
    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    /// Returns an entry. The use counts if `is_use`.
    pub(super) fn get(&self, hash: u64, id: &I, is_use: bool) -> Option<&CacheEntry<R>> {
        let index = *self.by_id.find(hash, |index| self.has_id(*index, id))?;
        let slot = self.slot(index)?;
        if is_use {
            let uses = slot.entry.clock.uses.load(Ordering::Relaxed);
            // A frequently used entry is not written.
            if uses < MAX_USES {
                slot.entry.clock.uses.store(uses + 1, Ordering::Relaxed);
            }
        }
        Some(&slot.entry)
    }

    /// Inserts an entry, in place of an older one of the same id. Returns how many others were evicted for it; itself if
    /// it is larger than the shard.
    pub(super) fn insert(
        &mut self,
        hasher: &DefaultHashBuilder,
        id: I,
        mut entry: CacheEntry<R>,
        weight: u16,
    ) -> u64 {
        let hash = hasher.hash_one(&id);
        let replaced = self.remove(hasher, hash, &id);
        if u64::from(weight) > self.capacity {
            return 1;
        }
        let mut evicted = 0;
        while self.weight + u64::from(weight) > self.capacity && self.evict_one(hasher) {
            evicted += 1;
        }
        // A newer version of an entry is as much in use as the older one.
        let uses = replaced.map_or_else(AtomicU8::default, |old| old.clock.uses);
        entry.clock = ClockState { weight, uses };
        let public_hash = entry.record.public_id().map(|id| hasher.hash_one(id));
        let index = self.put(Slot { id, entry });
        self.weight += u64::from(weight);
        let blocks = &self.blocks;
        self.by_id.insert_unique(hash, index, |index| {
            slot_of(blocks, *index).map_or(0, |slot| hasher.hash_one(&slot.id))
        });
        if let Some(hash) = public_hash {
            self.by_public_id.insert_unique(hash, index, |index| {
                let id = slot_of(blocks, *index).and_then(|slot| slot.entry.record.public_id());
                id.map_or(0, |id| hasher.hash_one(id))
            });
        }
        evicted
    }

    /// Removes an entry, and returns it.
    pub(super) fn remove(&mut self, hasher: &DefaultHashBuilder, hash: u64, id: &I) -> Option<CacheEntry<R>> {
        let index = *self.by_id.find(hash, |index| self.has_id(*index, id))?;
        self.take(hasher, index).map(|slot| slot.entry)
    }

    /// Lets `update` change an entry. It must not change the public id. Returns whether there is an entry.
    pub(super) fn update(
        &mut self,
        hasher: &DefaultHashBuilder,
        id: &I,
        update: impl FnOnce(&mut CacheEntry<R>) -> Keep,
    ) -> bool {
        let found = self.by_id.find(hasher.hash_one(id), |index| self.has_id(*index, id)).copied();
        found.is_some_and(|index| self.update_slot(hasher, index, update))
    }

    /// Lets `update` change the entries of records with a public id. Returns whether there are any.
    pub(super) fn update_public(
        &mut self,
        hasher: &DefaultHashBuilder,
        hash: u64,
        id: &PackedKeyId,
        mut update: impl FnMut(&mut CacheEntry<R>) -> Keep,
    ) -> bool {
        let found: Vec<u32> = self.public_indexes(hash, id).collect();
        for index in &found {
            self.update_slot(hasher, *index, &mut update);
        }
        !found.is_empty()
    }

    /// Returns the entries of records with a public id: one, or more if somebody has changed the key's digest.
    pub(super) fn find_public(
        &self,
        hash: u64,
        id: &PackedKeyId,
    ) -> impl Iterator<Item = (&I, &CacheEntry<R>)> {
        self.public_indexes(hash, id).filter_map(|index| self.slot(index)).map(|slot| (&slot.id, &slot.entry))
    }

    fn public_indexes(&self, hash: u64, id: &PackedKeyId) -> impl Iterator<Item = u32> {
        self.by_public_id.iter_hash(hash).copied().filter(move |index| {
            self.slot(*index).is_some_and(|slot| slot.entry.record.public_id() == Some(id))
        })
    }

    /// Removes the entries that `keep` does not want, among the first `count` slots from `start` on. Returns whether
    /// there are slots after these.
    pub(super) fn retain(
        &mut self,
        hasher: &DefaultHashBuilder,
        (start, count): (u32, u32),
        keep: impl Fn(&CacheEntry<R>) -> bool,
    ) -> bool {
        let end = start.saturating_add(count);
        for index in start..end.min(self.slots) {
            if self.slot(index).is_some_and(|slot| !keep(&slot.entry)) {
                self.take(hasher, index);
            }
        }
        end < self.slots
    }

    /// Iterates over the entries.
    pub(super) fn iter(&self) -> impl Iterator<Item = &CacheEntry<R>> {
        self.blocks.iter().flat_map(|block| block.iter().flatten()).map(|slot| &slot.entry)
    }

    fn update_slot(
        &mut self,
        hasher: &DefaultHashBuilder,
        index: u32,
        update: impl FnOnce(&mut CacheEntry<R>) -> Keep,
    ) -> bool {
        let Some(slot) = self.slot_mut(index).and_then(Option::as_mut) else { return false };
        if update(&mut slot.entry) == Keep::No {
            self.take(hasher, index);
        }
        true
    }

    fn evict_one(&mut self, hasher: &DefaultHashBuilder) -> bool {
        // Each entry is passed at most as often as it can be used before it is evicted.
        let passes = self.slots.saturating_mul(u32::from(MAX_USES) + 1);
        for _ in 0..passes {
            let index = self.hand;
            self.hand = if index + 1 < self.slots { index + 1 } else { 0 };
            let Some(slot) = self.slot(index) else { continue };
            match slot.entry.clock.uses.load(Ordering::Relaxed) {
                0 => return self.take(hasher, index).is_some(),
                uses => slot.entry.clock.uses.store(uses - 1, Ordering::Relaxed),
            }
        }
        false
    }

    /// Puts a slot into a free place.
    fn put(&mut self, slot: Slot<I, R>) -> u32 {
        if let Some(index) = self.free.pop() {
            if let Some(place) = self.slot_mut(index) {
                *place = Some(slot);
            }
            return index;
        }
        let index = self.slots;
        if (index as usize).is_multiple_of(BLOCK_SLOTS) {
            self.blocks.push(Vec::with_capacity(BLOCK_SLOTS));
        }
        if let Some(block) = self.blocks.last_mut() {
            block.push(Some(slot));
            self.slots += 1;
        }
        index
    }

    fn take(&mut self, hasher: &DefaultHashBuilder, index: u32) -> Option<Slot<I, R>> {
        let slot = self.slot_mut(index)?.take()?;
        if let Ok(found) = self.by_id.find_entry(hasher.hash_one(&slot.id), |other| *other == index) {
            found.remove();
        }
        let public_hash = slot.entry.record.public_id().map(|id| hasher.hash_one(id));
        if let Some(hash) = public_hash
            && let Ok(found) = self.by_public_id.find_entry(hash, |other| *other == index)
        {
            found.remove();
        }
        self.weight -= u64::from(slot.entry.clock.weight);
        self.free.push(index);
        Some(slot)
    }

    fn slot(&self, index: u32) -> Option<&Slot<I, R>> {
        slot_of(&self.blocks, index)
    }

    fn slot_mut(&mut self, index: u32) -> Option<&mut Option<Slot<I, R>>> {
        let index = index as usize;
        self.blocks.get_mut(index / BLOCK_SLOTS)?.get_mut(index % BLOCK_SLOTS)
    }

    fn has_id(&self, index: u32, id: &I) -> bool {
        self.slot(index).is_some_and(|slot| slot.id == *id)
    }
}

fn slot_of<I, R>(blocks: &[Block<I, R>], index: u32) -> Option<&Slot<I, R>> {
    let index = index as usize;
    blocks.get(index / BLOCK_SLOTS)?.get(index % BLOCK_SLOTS)?.as_ref()
}

/// The size of a slot, in bytes.
pub(super) const fn slot_bytes<I, R>() -> usize {
    size_of::<Option<Slot<I, R>>>()
}
