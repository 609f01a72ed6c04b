//! The change log of the database, as the change feed reads it.

use std::{future::Future, time::Duration};

use super::{
    change::{ChangeEvent, PerSubject},
    clock::UnixMillis,
    identity::DatabaseIdentity,
    store::{Call, StoreError},
    watch::Invalidation,
};

/// Reads and prunes the change log.
pub trait ChangeLog: Send + Sync + 'static {
    /// Reads up to `limit` entries after a position, and the data that shows whether the log is still the one
    /// that the position belongs to.
    ///
    /// Fails with [`StoreError`] when the database returns no complete result.
    fn read_changes(
        &self,
        call: Call,
        after: i64,
        limit: usize,
    ) -> impl Future<Output = Result<LogPage, StoreError>> + Send;

    /// Deletes up to `page` entries from the beginning of the log, but never the last `keep`. Returns whether
    /// there are more to delete.
    ///
    /// Fails with [`StoreError`] when the database does not respond.
    fn prune_changes(
        &self,
        call: Call,
        keep: i64,
        page: i64,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// The result of one read.
#[derive(Debug)]
pub struct LogPage {
    /// The entries: position, and the identifying text of the entry.
    pub entries: Vec<(i64, String)>,
    /// The position of the last entry of the log; 0 if the log is empty.
    pub newest: i64,
    /// The position of the first entry; 0 if the log is empty.
    pub oldest: i64,
    /// The entry at the position that was read from, or the last one before it.
    pub anchor: Option<String>,
    /// The change of each subject.
    pub per_subject: PerSubject<ChangeEvent>,
    /// The invalidations for subscribers.
    pub invalidations: Vec<Invalidation>,
    /// The identity of the database; `None` if it was deleted.
    pub database: Option<DatabaseIdentity>,
    /// The heartbeat and the clock of the database.
    pub heartbeat: LogHeartbeat,
}

impl LogPage {
    /// Returns the last entry that was read.
    #[must_use]
    pub fn last(&self) -> Option<&(i64, String)> {
        self.entries.last()
    }
}

/// The heartbeat and the clock of the database.
#[derive(Clone, Copy, Debug)]
pub struct LogHeartbeat {
    /// The heartbeat; `None` if its row was deleted.
    pub beat: Option<i64>,
    /// When the heartbeat was written, by the database's clock.
    pub at: UnixMillis,
    /// The database's clock.
    pub now: UnixMillis,
}

impl LogHeartbeat {
    /// Returns the age of the heartbeat; `None` if it lies in the future, after the clock was set back.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        u64::try_from(self.now.0 - self.at.0).ok().map(Duration::from_millis)
    }
}
