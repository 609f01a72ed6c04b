//! Weight of cached records, in units of [`WEIGHT_UNIT_BYTES`], and of negative entries, in units of
//! [`MAX_NEGATIVE_ENTRY_BYTES`].

use super::{MAX_NEGATIVE_ENTRY_BYTES, WEIGHT_UNIT_BYTES, shard::slot_bytes, subjects::MAX_SUBJECT_BYTES};
use crate::domain::change::CacheableRecord;

/// The places of an entry in two indexes, in bytes: 5 each, and up to as many again that are free.
const INDEX_BYTES: usize = 24;
/// A negative entry with an id of up to this many bytes on the heap fits into one unit.
const SHORT_ID_BYTES: usize = 48;

/// Returns the weight of an entry whose id owns `id_heap_bytes` on the heap, as if it shared nothing with others.
pub(super) fn weight_of<I, R: CacheableRecord>(id_heap_bytes: usize, record: &R) -> u16 {
    // The record itself is in the slot.
    let owned = record.size_bytes() - size_of::<R>();
    let bytes = id_heap_bytes + owned + slot_bytes::<I, R>() + INDEX_BYTES + MAX_SUBJECT_BYTES;
    u16::try_from(bytes.div_ceil(WEIGHT_UNIT_BYTES)).unwrap_or(u16::MAX)
}

/// Returns the weight of a negative entry for an id.
pub(super) fn negative_weight_of<R: CacheableRecord>(id: &R::Id) -> u32 {
    let units = 1 + R::id_heap_bytes(id).saturating_sub(SHORT_ID_BYTES).div_ceil(MAX_NEGATIVE_ENTRY_BYTES);
    u32::try_from(units).unwrap_or(u32::MAX)
}
