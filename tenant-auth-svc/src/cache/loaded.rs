//! What a load has read, and what came of it.

use std::time::Duration;

use super::{entry::ReadPoint, fence::Epoch};
use crate::domain::{record_source::CachedRecord, verdict::Revision};

/// The result of one read: a record, or none.
#[derive(Clone, Debug)]
pub(super) struct LoadedRecord<R> {
    pub(super) record: Option<R>,
    pub(super) revision: Revision,
    /// The monotonic time before the read.
    pub(super) loaded_at: Duration,
    /// The epoch before the read.
    pub(super) epoch: Epoch,
    /// Whether the result is older than what was known before the read.
    pub(super) is_lagging: bool,
}

impl<R> LoadedRecord<R> {
    /// Returns when and where it was read.
    pub(super) fn read_point(&self) -> ReadPoint {
        ReadPoint::new(self.loaded_at, self.epoch, self.revision)
    }
}

/// The result of an applied load.
#[derive(Clone, Debug)]
pub(super) struct AppliedLoad<R> {
    pub(super) cached: CachedRecord<R>,
    /// A caller that asked under this epoch or a higher one has to load again.
    pub(super) superseded_at: Option<Epoch>,
    /// Whether the result is older than what is known, and must not be trusted.
    pub(super) is_lagging: bool,
}
