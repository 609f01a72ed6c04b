//! How many places a record takes.

use std::{mem::size_of, sync::Arc};

use quick_cache::Weighter;

use super::{WEIGHT_UNIT_BYTES, entry::CacheEntry};
use crate::domain::change::CacheableRecord;

/// What the pools, and whatever gives memory to them, need for an entry. An estimate.
const ENTRY_OVERHEAD_BYTES: usize = 160;

/// By the records' length.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordWeighter;

impl<I, R: CacheableRecord> Weighter<I, Arc<CacheEntry<R>>> for RecordWeighter {
    fn weight(&self, _: &I, entry: &Arc<CacheEntry<R>>) -> u64 {
        weight_of(entry.record.as_deref())
    }
}

/// Of a record, or of its absence.
pub(super) fn weight_of<R: CacheableRecord>(record: Option<&R>) -> u64 {
    let bytes =
        record.map_or(0, CacheableRecord::size_bytes) + size_of::<CacheEntry<R>>() + ENTRY_OVERHEAD_BYTES;
    bytes.div_ceil(WEIGHT_UNIT_BYTES) as u64
}

/// The same, as moka has it.
pub(super) fn weight_of_u32<R: CacheableRecord>(record: Option<&R>) -> u32 {
    u32::try_from(weight_of(record)).unwrap_or(u32::MAX)
}
