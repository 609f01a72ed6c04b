//! Shortens the change log at its beginning.

use std::time::Duration;

use super::Feed;
use crate::{
    domain::{
        change::Forget,
        store::{Call, FailureKind, Lane, StoreError},
    },
    store::engine::{Engine, Statement},
};

/// How many entries of the log are kept. Replicas that were away for longer verify what they have.
const MAX_ENTRIES: i64 = 100_000;
/// How many entries go in one transaction, at most.
const PAGE: i64 = 1_000;
/// The wait between two pages, in which others may write.
const PAUSE: Duration = Duration::from_millis(20);
/// How long one page may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A range of the log's primary key: as many rows are read as are deleted.
const PRUNE: &str = "\
DELETE FROM changes WHERE seq <= min((SELECT max(seq) FROM changes) - ?1, (SELECT min(seq) FROM changes) + ?2 - 1)";

/// Whether there is more to prune.
const MORE: &str = "SELECT (SELECT min(seq) FROM changes) <= (SELECT max(seq) FROM changes) - ?1";

impl<E: Engine, M: Forget> Feed<E, M> {
    /// Deletes all but the newest entries of the log, page by page: writers come in between. Any replica may, at any time.
    ///
    /// # Errors
    /// When the database gives no answer; nothing depends on it.
    pub async fn prune(&self) -> Result<(), StoreError> {
        loop {
            let prune = Statement::new(PRUNE).bind(MAX_ENTRIES).bind(PAGE);
            let more = Statement::new(MORE).bind(MAX_ENTRIES);
            let call = Call::within(Lane::Maintenance, TIMEOUT);
            let results = self.engine.transaction(call, vec![prune, more]).await?;
            let more = match results.last().map(Vec::as_slice) {
                // NULL of an empty log.
                Some([row]) => row.optional_integer(0)? == Some(1),
                _ => return Err(StoreError::new(FailureKind::Garbled, "a question has not one answer")),
            };
            if !more {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
