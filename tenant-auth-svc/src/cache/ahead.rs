//! Taking in what is known before anybody asks for it: what is read ahead, and what this replica has written itself.

use std::time::Duration;

use super::{Cached, fence::Epoch, pool::Loaded};
use crate::{
    cache::source::Lookup,
    domain::{change::WriteThrough, identity::DatabaseIdentity, store::StoredDigest, verdict::Revision},
};

/// A read ahead, or a write, that is under way.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    loaded_at: Duration,
    began: Epoch,
}

impl<L: Lookup> Cached<L> {
    /// Before a read ahead, or a write: the moment and the epoch from which its answer counts.
    pub fn reading(&self) -> Reading {
        Reading { loaded_at: self.0.clock.monotonic(), began: self.0.pool.epoch() }
    }

    /// Takes in what was read ahead from a database, if it is the known one.
    pub fn read_ahead(
        &self,
        reading: Reading,
        database: &DatabaseIdentity,
        revision: Revision,
        records: Vec<(StoredDigest, L::Record)>,
    ) {
        let Reading { loaded_at, began } = reading;
        let (Ok(()), Ok(loaded_at)) = (self.0.known.check(database), self.0.known.counts_from(loaded_at))
        else {
            return;
        };
        for (digest, record) in records {
            let loaded = Loaded { record: Some(record), revision, loaded_at, began, lags: false };
            self.0.pool.settle_ahead(digest, loaded);
        }
    }
}

impl<L: Lookup> WriteThrough<L::Id, L::Record> for Cached<L> {
    type Begun = Reading;

    fn begin(&self) -> Reading {
        self.reading()
    }

    fn put(&self, begun: Reading, id: &L::Id, record: L::Record, revision: Revision) {
        let Reading { loaded_at, began } = begun;
        let loaded = Loaded { record: Some(record), revision, loaded_at, began, lags: false };
        self.0.pool.put(id, loaded);
    }
}
