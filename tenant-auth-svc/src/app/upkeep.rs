//! What goes on in the background once the schema is in place: reading ahead, and writing down which keys are in use.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};

use super::{
    Database, Memory,
    readiness::{Readiness, State},
};
use crate::domain::{
    store::{Call, Lane, Store as _, StoreError},
    used::Uses,
};

/// How many keys are read ahead in one statement.
const PAGE: usize = 500;
/// How long one statement of upkeep may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The wait before reading ahead goes on after a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// How often uses are written.
const WRITE_EVERY: Duration = Duration::from_secs(60);

/// What goes on in the background.
#[derive(Debug)]
pub(super) struct Upkeep {
    pub(super) memory: Memory,
    database: Database,
    uses: Arc<Uses>,
    reading: JoinHandle<()>,
    writing: JoinHandle<()>,
}

impl Upkeep {
    /// Begins, as soon as the service is ready. Memory has room for `capacity` keys.
    pub(super) fn begin(
        database: Database,
        memory: Memory,
        capacity: u64,
        uses: Arc<Uses>,
        readiness: watch::Receiver<Readiness>,
    ) -> Self {
        let reading = tokio::spawn(read_ahead(database.clone(), memory.clone(), capacity, readiness));
        let writing = tokio::spawn(write_uses(Arc::clone(&uses), database.clone()));
        Self { memory, database, uses, reading, writing }
    }

    /// Waits until the keys in use were read ahead.
    pub(super) async fn have_read_ahead(&mut self) {
        // It ends by itself, or with the service.
        let _ = (&mut self.reading).await;
    }

    /// Writes down the uses noted so far.
    pub(super) async fn write_uses(&self) -> Result<(), StoreError> {
        self.uses.flush(&self.database, call).await
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.reading.abort();
        self.writing.abort();
    }
}

/// Fills an empty memory with the keys that were used most recently, up to its capacity, so that a replica which has just
/// started can tide over an outage too. Nothing waits for it.
async fn read_ahead(
    database: Database,
    memory: Memory,
    capacity: u64,
    mut readiness: watch::Receiver<Readiness>,
) {
    if readiness.wait_for(|now| matches!(now.state, State::Ready)).await.is_err() {
        return;
    }
    let mut left = usize::try_from(capacity).unwrap_or(usize::MAX);
    let mut after = None;
    while left > 0 {
        let limit = left.min(PAGE);
        let reading = memory.reading_ahead();
        let Ok(page) = database.keys_in_use(call(), after.clone(), limit).await else {
            // It is logged where it happens.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let is_last = page.keys.len() < limit;
        left -= page.keys.len();
        let last = page.keys.last().map(|(_, key)| (key.last_used_at, key.key_id.clone()));
        memory.read_ahead(reading, page.revision, page.keys);
        match last {
            Some((Some(at), id)) if !is_last => after = Some((at, id)),
            _ => return,
        }
    }
}

/// Writes down uses, again and again.
async fn write_uses(uses: Arc<Uses>, database: Database) {
    loop {
        tokio::time::sleep(WRITE_EVERY).await;
        // A failure is logged where it happens; what was not written is written the next time.
        let _ = uses.flush(&database, call).await;
    }
}

fn call() -> Call {
    Call::within(Lane::Maintenance, PATIENCE)
}
