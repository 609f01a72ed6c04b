//! Inserts records that no request has loaded: preloaded ones, and this replica's own writes.

use std::time::Duration;

use super::{RecordCache, fence::Epoch, loaded::LoadedRecord};
use crate::{
    cache::lookup::Lookup,
    domain::{change::WriteThrough, identity::DatabaseIdentity, store::StoredDigest, verdict::Revision},
};

/// A preload or a write in flight.
#[derive(Clone, Copy, Debug)]
pub struct PendingRead {
    loaded_at: Duration,
    epoch: Epoch,
}

impl<L: Lookup> RecordCache<L> {
    /// Starts a preload or a write. Its result counts as of this time and epoch.
    pub fn start_read(&self) -> PendingRead {
        PendingRead { loaded_at: self.0.clock.monotonic(), epoch: self.0.pool.epoch() }
    }

    /// Inserts preloaded records, if they come from the known database.
    pub fn insert_preloaded(
        &self,
        pending: PendingRead,
        database: &DatabaseIdentity,
        revision: Revision,
        records: Vec<(StoredDigest, L::Record)>,
    ) {
        let PendingRead { loaded_at, epoch } = pending;
        let (Ok(()), Ok(loaded_at)) =
            (self.0.known.check(database), self.0.known.effective_read_time(loaded_at))
        else {
            return;
        };
        for (digest, record) in records {
            let loaded = LoadedRecord { record: Some(record), revision, loaded_at, epoch, is_lagging: false };
            self.0.pool.insert_preloaded(digest, loaded);
        }
    }
}

impl<L: Lookup> WriteThrough<L::Id, L::Record> for RecordCache<L> {
    type Begun = PendingRead;

    fn begin(&self) -> PendingRead {
        self.start_read()
    }

    fn put(&self, begun: PendingRead, id: &L::Id, record: L::Record, revision: Revision) {
        let PendingRead { loaded_at, epoch } = begun;
        let loaded = LoadedRecord { record: Some(record), revision, loaded_at, epoch, is_lagging: false };
        self.0.pool.record_write(id, loaded);
    }
}
