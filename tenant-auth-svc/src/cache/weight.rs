//! How many places a record takes.

use std::{mem::size_of, sync::Arc};

use quick_cache::Weighter;

use super::{PLACE, entry::Entry};
use crate::domain::change::Record;

/// What the pools, and whatever gives memory to them, need for an entry. An estimate.
const AROUND: usize = 160;

/// By the records' length.
#[derive(Clone, Copy, Debug)]
pub(super) struct ByLength;

impl<I, R: Record> Weighter<I, Arc<Entry<R>>> for ByLength {
    fn weight(&self, _: &I, entry: &Arc<Entry<R>>) -> u64 {
        of(entry.record.as_deref())
    }
}

/// Of a record, or of its absence.
pub(super) fn of<R: Record>(record: Option<&R>) -> u64 {
    let bytes = record.map_or(0, Record::bytes) + size_of::<Entry<R>>() + AROUND;
    bytes.div_ceil(PLACE) as u64
}

/// The same, as moka has it.
pub(super) fn small_of<R: Record>(record: Option<&R>) -> u32 {
    u32::try_from(of(record)).unwrap_or(u32::MAX)
}
