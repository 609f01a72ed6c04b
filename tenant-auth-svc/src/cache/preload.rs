//! Inserts records that no request has loaded: preloaded ones, and this replica's own writes.

use std::time::Duration;

use super::{RecordCache, fence::Epoch, loaded::LoadedRecord};
use crate::{
    cache::lookup::Lookup,
    domain::{
        change::WriteThrough, identity::DatabaseIdentity, known_database::KnownDatabase, store::StoredDigest,
        verdict::Revision,
    },
};

/// A preload or a write in flight.
#[derive(Clone, Copy, Debug)]
pub struct PendingRead {
    /// When a write began.
    written_at: Duration,
    /// As of when a read counts whose position is not below `position`.
    read_at: Duration,
    position: Revision,
    epoch: Epoch,
}

impl<L: Lookup> RecordCache<L> {
    /// Starts a preload or a write. Its result counts as of this time and epoch.
    pub fn start_read(&self) -> PendingRead {
        let written_at = self.0.clock.monotonic();
        PendingRead {
            written_at,
            read_at: self.0.known.reads_count_from(written_at),
            position: self.0.known.position(),
            epoch: self.0.pool.epoch(),
        }
    }

    /// The database whose records are cached.
    pub fn known_database(&self) -> &KnownDatabase {
        &self.0.known
    }

    /// Inserts preloaded records, if they come from the known database, and no lagging read replica has answered.
    pub fn insert_preloaded(
        &self,
        pending: PendingRead,
        database: &DatabaseIdentity,
        revision: Revision,
        records: Vec<(StoredDigest, L::Record)>,
    ) {
        let PendingRead { read_at, position, epoch, .. } = pending;
        let (Ok(()), Ok(loaded_at), false) =
            (self.0.known.check(database), self.0.known.effective_read_time(read_at), revision < position)
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
        let PendingRead { written_at, epoch, .. } = begun;
        let loaded =
            LoadedRecord { record: Some(record), revision, loaded_at: written_at, epoch, is_lagging: false };
        self.0.pool.record_write(id, loaded);
    }
}
