//! Taking in what is known before anybody asks for it: what is read ahead, and what this replica has written itself.

use std::time::Duration;

use super::{RecordCache, fence::Epoch, pool::LoadedRecord};
use crate::{
    cache::lookup::Lookup,
    domain::{change::WriteThrough, identity::DatabaseIdentity, store::StoredDigest, verdict::Revision},
};

/// A read ahead, or a write, that is under way.
#[derive(Clone, Copy, Debug)]
pub struct PendingRead {
    loaded_at: Duration,
    epoch: Epoch,
}

impl<L: Lookup> RecordCache<L> {
    /// Before a read ahead, or a write: the moment and the epoch from which its answer counts.
    pub fn start_read(&self) -> PendingRead {
        PendingRead { loaded_at: self.0.clock.monotonic(), epoch: self.0.pool.epoch() }
    }

    /// Takes in what was read ahead from a database, if it is the known one.
    pub fn insert_preloaded(
        &self,
        reading: PendingRead,
        database: &DatabaseIdentity,
        revision: Revision,
        records: Vec<(StoredDigest, L::Record)>,
    ) {
        let PendingRead { loaded_at, epoch: began } = reading;
        let (Ok(()), Ok(loaded_at)) =
            (self.0.known.check(database), self.0.known.effective_read_time(loaded_at))
        else {
            return;
        };
        for (digest, record) in records {
            let loaded =
                LoadedRecord { record: Some(record), revision, loaded_at, epoch: began, is_lagging: false };
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
        let PendingRead { loaded_at, epoch: began } = begun;
        let loaded =
            LoadedRecord { record: Some(record), revision, loaded_at, epoch: began, is_lagging: false };
        self.0.pool.record_write(id, loaded);
    }
}
