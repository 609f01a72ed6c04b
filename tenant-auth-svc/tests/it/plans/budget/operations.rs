//! Every operation of the service, once, in a filled database.

mod changes;
mod jobs;
mod lists;
mod lookups;

use crate::harness::scale::FilledDatabase;

/// Runs every operation, and records its rows.
pub(super) async fn run_operations(filled: &mut FilledDatabase) {
    lookups::run(filled).await;
    lists::run(filled).await;
    jobs::run(filled).await;
    changes::run(filled).await;
}
