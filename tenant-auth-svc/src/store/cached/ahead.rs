//! Taking in what is read before anybody asks for it.

use std::time::Duration;

use super::{Cached, fence::Epoch, pool::Loaded};
use crate::{
    domain::{store::StoredDigest, verdict::Revision},
    store::lookup::Lookup,
};

/// A read ahead that is under way.
#[derive(Clone, Copy, Debug)]
pub struct ReadingAhead {
    loaded_at: Duration,
    began: Epoch,
}

impl<L: Lookup> Cached<L> {
    /// Before a read ahead: the moment and the epoch from which its answer counts.
    pub fn reading_ahead(&self) -> ReadingAhead {
        ReadingAhead { loaded_at: self.0.clock.monotonic(), began: self.0.pool.epoch() }
    }

    /// Takes in what was read ahead.
    pub fn read_ahead(
        &self,
        reading: ReadingAhead,
        revision: Revision,
        records: Vec<(StoredDigest, L::Record)>,
    ) {
        let ReadingAhead { loaded_at, began } = reading;
        for (digest, record) in records {
            let loaded = Loaded { record: Some(record), revision, loaded_at, began };
            self.0.pool.settle_ahead(digest, loaded);
        }
    }
}
