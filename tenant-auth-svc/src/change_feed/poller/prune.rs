//! Prunes the change log.

use std::time::Duration;

use super::FeedPoller;
use crate::domain::{
    change::Invalidate,
    change_log::ChangeLog,
    store::{Call, Lane, StoreError},
};

/// Number of entries kept. A replica that was disconnected for longer revalidates its cache.
const MAX_LOG_ENTRIES: i64 = 100_000;
/// Maximum number of entries deleted in one transaction.
const ENTRIES_PER_PAGE: i64 = 1_000;
/// Delay between two pages, so that other writers get a turn.
const PAGE_DELAY: Duration = Duration::from_millis(20);
/// Time limit of one page.
const PAGE_TIMEOUT: Duration = Duration::from_secs(10);

impl<L: ChangeLog, M: Invalidate> FeedPoller<L, M> {
    /// Deletes all but the newest entries of the log, page by page. Any replica may do so at any time.
    ///
    /// # Errors
    /// When the database does not respond. Nothing depends on the pruning.
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
