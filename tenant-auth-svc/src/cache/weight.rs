//! Weight of cached records, in units of [`WEIGHT_UNIT_BYTES`].

use std::{mem::size_of, sync::Arc};

use quick_cache::Weighter;

use super::{WEIGHT_UNIT_BYTES, entry::CacheEntry};
use crate::domain::change::CacheableRecord;

/// Estimated bookkeeping of the pools and the allocator per entry, in bytes.
const ENTRY_OVERHEAD_BYTES: usize = 160;

/// Weighs entries by the size of their record.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordWeighter;

impl<I, R: CacheableRecord> Weighter<I, Arc<CacheEntry<R>>> for RecordWeighter {
    fn weight(&self, _: &I, entry: &Arc<CacheEntry<R>>) -> u64 {
        weight_of(entry.record.as_deref())
    }
}

/// Returns the weight of a record, or of a negative entry for `None`.
pub(super) fn weight_of<R: CacheableRecord>(record: Option<&R>) -> u64 {
    let bytes =
        record.map_or(0, CacheableRecord::size_bytes) + size_of::<CacheEntry<R>>() + ENTRY_OVERHEAD_BYTES;
    bytes.div_ceil(WEIGHT_UNIT_BYTES) as u64
}

/// Like [`weight_of`], in the type that moka expects.
pub(super) fn weight_of_u32<R: CacheableRecord>(record: Option<&R>) -> u32 {
    u32::try_from(weight_of(record)).unwrap_or(u32::MAX)
}
