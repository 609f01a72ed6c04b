//! Weight of cached records, in units of [`WEIGHT_UNIT_BYTES`], and of negative entries, in units of
//! [`MAX_NEGATIVE_ENTRY_BYTES`].

use std::{mem::size_of, sync::Arc};

use quick_cache::Weighter;

use super::{MAX_NEGATIVE_ENTRY_BYTES, WEIGHT_UNIT_BYTES, entry::CacheEntry};
use crate::domain::change::CacheableRecord;

/// Estimated bookkeeping of the pools and the allocator per entry, in bytes.
const ENTRY_OVERHEAD_BYTES: usize = 160;
/// A negative entry with an id of up to this many bytes on the heap fits into one unit.
const SHORT_ID_BYTES: usize = 48;

/// Weighs entries by the size of their id and record.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordWeighter;

impl<I, R: CacheableRecord<Id = I>> Weighter<I, Arc<CacheEntry<R>>> for RecordWeighter {
    fn weight(&self, id: &I, entry: &Arc<CacheEntry<R>>) -> u64 {
        u64::from(weight_of(R::id_heap_bytes(id), entry.record.as_deref()))
    }
}

/// Returns the weight of an entry whose id owns `id_bytes` on the heap.
pub(super) fn weight_of<R: CacheableRecord>(id_bytes: usize, record: Option<&R>) -> u32 {
    let record_bytes = record.map_or(0, CacheableRecord::size_bytes);
    let bytes = id_bytes + record_bytes + size_of::<CacheEntry<R>>() + ENTRY_OVERHEAD_BYTES;
    u32::try_from(bytes.div_ceil(WEIGHT_UNIT_BYTES)).unwrap_or(u32::MAX)
}

/// Returns the weight of a negative entry for an id.
pub(super) fn negative_weight_of<R: CacheableRecord>(id: &R::Id) -> u32 {
    let units = 1 + R::id_heap_bytes(id).saturating_sub(SHORT_ID_BYTES).div_ceil(MAX_NEGATIVE_ENTRY_BYTES);
    u32::try_from(units).unwrap_or(u32::MAX)
}
