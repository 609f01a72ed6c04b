//! Shortens the change log at its beginning.

use std::time::Duration;

use super::FeedPoller;
use crate::domain::{
    change::Invalidate,
    change_log::ChangeLog,
    store::{Call, Lane, StoreError},
};

/// How many entries of the log are kept. Replicas that were away for longer verify what they have.
const MAX_LOG_ENTRIES: i64 = 100_000;
/// How many entries go in one transaction, at most.
const ENTRIES_PER_PAGE: i64 = 1_000;
/// The wait between two pages, in which others may write.
const PAGE_DELAY: Duration = Duration::from_millis(20);
/// How long one page may take.
const PAGE_TIMEOUT: Duration = Duration::from_secs(10);

impl<L: ChangeLog, M: Invalidate> FeedPoller<L, M> {
    /// Deletes all but the newest entries of the log, page by page: writers come in between. Any replica may, at any time.
    ///
    /// # Errors
    /// When the database gives no answer; nothing depends on it.
    pub async fn prune(&self) -> Result<(), StoreError> {
        while self
            .log
            .prune_changes(Call::within(Lane::Maintenance, PAGE_TIMEOUT), MAX_LOG_ENTRIES, ENTRIES_PER_PAGE)
            .await?
        {
            tokio::time::sleep(PAGE_DELAY).await;
        }
        Ok(())
    }
}
