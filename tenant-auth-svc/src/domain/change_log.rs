//! The log of changes that the database keeps, as the change feed reads it.

use std::future::Future;

use super::{
    change::{ChangeEvent, PerSubject},
    clock::UnixMillis,
    identity::DatabaseIdentity,
    store::{Call, StoreError},
    watch::Invalidation,
};

/// Where the log is read, and shortened.
pub trait ChangeLog: Send + Sync + 'static {
    /// Reads what comes after a position, so many entries at most; and, with it, whether the log is still the one that the position was
    /// taken from.
    ///
    /// Fails with [`StoreError`] when the database gives no complete answer.
    fn read_changes(
        &self,
        call: Call,
        after: i64,
        limit: usize,
    ) -> impl Future<Output = Result<LogPage, StoreError>> + Send;

    /// Deletes entries from the beginning of the log, at most `page` of them and never the last `keep`. Whether there are more to
    /// delete.
    ///
    /// Fails with [`StoreError`] when the database gives no answer.
    fn prune_changes(
        &self,
        call: Call,
        keep: i64,
        page: i64,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// What one read told.
#[derive(Debug)]
pub struct LogPage {
    /// What was read, by its place in the log, and as the log names it.
    pub entries: Vec<(i64, String)>,
    /// The place of the log's last entry; 0 of an empty log.
    pub newest: i64,
    /// That of its first one; 0 of an empty log.
    pub oldest: i64,
    /// The entry at the position after which was read, or the last one before it.
    pub anchor: Option<String>,
    /// What has become of each subject.
    pub per_subject: PerSubject<ChangeEvent>,
    /// What watchers are told.
    pub invalidations: Vec<Invalidation>,
    /// Which database it is; `None` where somebody has removed that.
    pub database: Option<DatabaseIdentity>,
    /// What the database says of its heartbeat and its clock.
    pub heartbeat: LogHeartbeat,
}

impl LogPage {
    /// The last entry that was read.
    #[must_use]
    pub fn last(&self) -> Option<&(i64, String)> {
        self.entries.last()
    }
}

/// What the database says of its heartbeat and its clock.
#[derive(Clone, Copy, Debug)]
pub struct LogHeartbeat {
    /// `None` where somebody has removed it.
    pub beat: Option<i64>,
    /// When it was given, by the database's clock.
    pub at: UnixMillis,
    /// The database's clock.
    pub now: UnixMillis,
}
