//! What goes on in the background once the schema is in place: reading ahead, and writing down which keys are in use.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};

use crate::{
    domain::{
        clock::SharedClock,
        outage::OutageGrace,
        session::{Slides, Sweeper},
        store::{Call, Lane, Store as _, StoreError},
        used::Uses,
    },
    server::{
        Database, Memories, Memory,
        readiness::{Readiness, State},
    },
};

/// How many keys are read ahead in one statement.
const PAGE: usize = 500;
/// How long one statement of upkeep may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The wait before reading ahead goes on after a failure; it doubles with each further one.
const PAUSE: Duration = Duration::from_secs(1);
/// … up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often uses of keys are written, and sessions swept.
const WRITE_EVERY: Duration = Duration::from_secs(60);
/// How often the moved ends of sessions are written, and entries of the audit log that wait. Well below the shortest time to live of a sliding one.
const SLIDE_EVERY: Duration = Duration::from_secs(5);
/// How often memory lets go of what is too old for everything.
const TIDY_EVERY: Duration = Duration::from_secs(15 * 60);

/// What waits to be written.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) uses: Arc<Uses>,
    pub(crate) slides: Arc<Slides>,
    pub(crate) outage: Arc<OutageGrace<Database>>,
}

impl Pending {
    async fn write(&self, database: &Database, clock: &SharedClock) -> Result<(), StoreError> {
        let uses = self.uses.flush(database, call).await;
        let audit = self.outage.write_audit(call).await;
        self.slides.flush(database, || clock.now(), call).await.and(uses).and(audit)
    }
}

/// What goes on in the background.
#[derive(Debug)]
pub(crate) struct Upkeep {
    pub(crate) memory: Memory,
    database: Database,
    sweeper: Arc<Sweeper>,
    pending: Pending,
    clock: SharedClock,
    tasks: [JoinHandle<()>; 6],
    reading: JoinHandle<()>,
}

impl Upkeep {
    /// Begins, as soon as the service is ready. Memory has room for `capacity` keys.
    pub(crate) fn begin(
        database: Database,
        memories: Memories,
        capacity: u64,
        pending: Pending,
        clock: SharedClock,
        readiness: watch::Receiver<Readiness>,
    ) -> Self {
        let memory = memories.0.clone();
        let reading = tokio::spawn(read_ahead(database.clone(), memory.clone(), capacity, readiness));
        let (uses, slides) = (Arc::clone(&pending.uses), Arc::clone(&pending.slides));
        let sweeper = Arc::new(Sweeper::default());
        let tasks = [
            tokio::spawn(write_uses(uses, database.clone())),
            tokio::spawn(write_slides(slides, Arc::clone(&clock), database.clone())),
            tokio::spawn(keep_swept(Arc::clone(&sweeper), database.clone())),
            tokio::spawn(check_peppers(database.clone())),
            tokio::spawn(write_audit(Arc::clone(&pending.outage))),
            tokio::spawn(keep_tidy(memories)),
        ];
        Self { memory, database, sweeper, pending, clock, tasks, reading }
    }

    /// Waits until the keys in use were read ahead.
    pub(crate) async fn have_read_ahead(&mut self) {
        // It ends by itself, or with the service.
        let _ = (&mut self.reading).await;
    }

    /// Writes down the uses noted so far.
    pub(crate) async fn write_uses(&self) -> Result<(), StoreError> {
        self.pending.write(&self.database, &self.clock).await
    }

    /// Deletes sessions that have been over for a while, or whose keys have.
    pub(crate) async fn sweep(&self) -> Result<u64, StoreError> {
        self.sweeper.sweep(&self.database, call).await
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.reading.abort();
        for task in &self.tasks {
            task.abort();
        }
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
    let (mut after, mut pause) = (None, PAUSE);
    while left > 0 {
        let limit = left.min(PAGE);
        let reading = memory.reading();
        let page = match database.keys_in_use(call(), after.clone(), limit).await {
            Ok(page) => page,
            Err(error) => {
                let seconds = pause.as_secs();
                tracing::warn!(%error, seconds, "keys in use cannot be read ahead; it is tried again after a pause");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
        };
        pause = PAUSE;
        left = left.saturating_sub(page.keys.len());
        after = page.next;
        memory.read_ahead(reading, &page.database, page.revision, page.keys);
        if after.is_none() {
            return;
        }
    }
}

// A failure is logged where it happens; what was not done is done the next time.

/// Writes down which keys are in use, again and again.
async fn write_uses(uses: Arc<Uses>, database: Database) {
    loop {
        tokio::time::sleep(WRITE_EVERY).await;
        let _ = uses.flush(&database, call).await;
    }
}

/// Writes down what operators did while the database was away, again and again.
async fn write_audit(outage: Arc<OutageGrace<Database>>) {
    loop {
        tokio::time::sleep(SLIDE_EVERY).await;
        let _ = outage.write_audit(call).await;
    }
}

/// Writes down how far the ends of sessions have moved, again and again.
async fn write_slides(slides: Arc<Slides>, clock: SharedClock, database: Database) {
    loop {
        tokio::time::sleep(SLIDE_EVERY).await;
        let _ = slides.flush(&database, || clock.now(), call).await;
    }
}

/// Sweeps, again and again.
async fn keep_swept(sweeper: Arc<Sweeper>, database: Database) {
    loop {
        tokio::time::sleep(WRITE_EVERY).await;
        let _ = sweeper.sweep(&database, call).await;
    }
}

/// Looks for peppers that are missing here, again and again: a replica that is asked about nothing new would not notice.
async fn check_peppers(database: Database) {
    loop {
        tokio::time::sleep(WRITE_EVERY).await;
        let _ = database.check_peppers(call()).await;
    }
}

/// Lets go of what memory holds in vain, again and again.
async fn keep_tidy((keys, sessions): Memories) {
    loop {
        tokio::time::sleep(TIDY_EVERY).await;
        keys.sweep();
        sessions.sweep();
    }
}

fn call() -> Call {
    Call::within(Lane::Maintenance, PATIENCE)
}
