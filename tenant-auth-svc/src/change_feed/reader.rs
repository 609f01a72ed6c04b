//! The change feed: reads the database's change log every quarter of a second and makes memory forget.
//!
//! One read over the log's primary key per poll, whatever happened: at the default interval 14,400 an hour and replica,
//! of three index entries each while idle.

mod cursor;
mod ends;
mod liveness;
mod prune;

use std::{
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use tokio::sync::Mutex;

pub use self::liveness::{Heard, MAX_CLOCK_OFFSET, is_wrong};
use self::{
    cursor::{Continuity, Position},
    ends::Ends,
};
use super::hub::Hub;
use crate::{
    domain::{
        change::Forget,
        change_log::{ChangeLog, LogPage},
        clock::SharedClock,
        identity::{DatabaseIdentity, Doubt},
        known::{KnownDatabase, lagging, untrusted},
        recovery::{DatabaseState, DatabaseWatch, HeldEnd},
        store::{Call, FailureKind, Lane, StoreError},
        verdict::Revision,
    },
    instruments::counts::Counter,
};

/// After this long without a successful read the feed vouches for nothing.
pub const SILENCE: Duration = Duration::from_secs(1);
/// How long one read may take at most. Shorter than [`SILENCE`]: a hanging one must not be the reason for it.
const PATIENCE: Duration = Duration::from_millis(500);
/// The most events of one read. More are read at once after it.
const MOST: usize = 1_000;

/// The feed of one replica.
#[derive(Debug)]
pub struct Feed<L, M> {
    log: L,
    memory: M,
    clock: SharedClock,
    heard: Arc<Heard>,
    known: Arc<KnownDatabase>,
    hub: Hub,
    patience: Duration,
    position: Mutex<Position>,
    ends: StdMutex<Ends>,
    /// Ends that the database may lack, and that hold all the same.
    held: StdMutex<Vec<HeldEnd>>,
    events: Counter,
    start_overs: Counter,
}

impl<L: ChangeLog, M: Forget> Feed<L, M> {
    /// Reads the log of the database that is `known` through `log`, makes `memory` forget, tells through `heard` that it did,
    /// and passes on through `hub` what it read. A read may take as long as any call may, `timeout`, or half a second.
    pub fn new(
        log: L,
        memory: M,
        clock: SharedClock,
        heard: Arc<Heard>,
        known: Arc<KnownDatabase>,
        hub: Hub,
        timeout: Duration,
    ) -> Self {
        Self {
            log,
            memory,
            clock,
            heard,
            known,
            hub,
            patience: timeout.min(PATIENCE),
            position: Mutex::default(),
            ends: StdMutex::default(),
            held: StdMutex::default(),
            events: Counter::default(),
            start_overs: Counter::default(),
        }
    }

    /// Where to listen to what it reads.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// How many changes were read.
    pub fn events(&self) -> u64 {
        self.events.get()
    }

    /// How often the log did not go on from where it was read.
    pub fn start_overs(&self) -> u64 {
        self.start_overs.get()
    }

    /// Ends that hold although the database may lack them: it was rolled back, and accepted as it is. They are to be made again.
    pub fn held(&self) -> Vec<HeldEnd> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads everything new, and only then counts as heard.
    ///
    /// # Errors
    /// When the database gives no complete answer; the position stays, and the next read starts there. When it is not the one
    /// that this replica knows, or a copy that lags or stands still.
    pub async fn poll(&self) -> Result<(), StoreError> {
        let mut position = self.position.lock().await;
        loop {
            // From before the read: a change that commits during it may be missing from it.
            let (at, asked_at) = (self.clock.monotonic(), self.clock.now());
            // The first reading wants to know where the log ends, and nothing of what is in it.
            let after = if position.begun { position.seq } else { i64::MAX };
            let call = Call::within(Lane::Feed, self.patience);
            let page = self.log.read_changes(call, after, MOST).await;
            let page = page.inspect_err(|error| self.doubt_if_empty(error))?;
            self.heard.compare_clocks(asked_at, self.clock.now(), page.heartbeat.now);
            let database = self.recognise(&mut position, &page, at)?;
            let more = page.entries.len() == MOST;
            self.apply(&mut position, page, &database);
            if !more {
                if self.known.is_out_of_reach() {
                    // A copy that stands still says nothing about what has changed since.
                    return Err(lagging());
                }
                self.heard.note(at);
                self.hub.alive();
                return Ok(());
            }
        }
    }

    /// A database without our tables is none that could be known.
    fn doubt_if_empty(&self, error: &StoreError) {
        if error.kind == FailureKind::Misplaced {
            self.known.doubt(Doubt::Empty, None, Revision(0));
        }
    }

    /// Whether what was read comes from the database that this replica knows, and goes on from where it has read.
    fn recognise(
        &self,
        position: &mut Position,
        page: &LogPage,
        at: Duration,
    ) -> Result<DatabaseIdentity, StoreError> {
        let log_end = Revision(page.newest);
        let doubt = |doubt| {
            self.known.doubt(doubt, page.database.clone(), log_end);
            Err(untrusted())
        };
        let Some(found) = &page.database else { return doubt(Doubt::Another) };
        let known = self.known.trust().known;
        if known.as_ref().is_some_and(|known| found.was_accepted_instead_of(known)) {
            self.accept(position, page);
            return Ok(found.clone());
        }
        if known.is_some_and(|known| known != *found) {
            return doubt(Doubt::Another);
        }
        match position.follows(page, at) {
            Continuity::Broken => doubt(Doubt::RolledBack),
            Continuity::Behind => Err(lagging()),
            Continuity::GoesOn => Ok(found.clone()),
            Continuity::Pruned => {
                self.start_over(
                    position.seq,
                    page,
                    "the change log does not reach back to where it was read",
                );
                Ok(found.clone())
            }
        }
    }

    /// An operator has accepted the database as it is. What has ended since holds, whatever it says.
    fn accept(&self, position: &mut Position, page: &LogPage) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let common_end = Revision(position.common_end());
        let held = ends.after(common_end);
        ends.keep_up_to(common_end);
        self.memory.hold(&ends::by_subject(&held));
        tracing::warn!(
            held = held.len(),
            "the database was accepted as it is; ends that it may lack are held"
        );
        self.held.lock().unwrap_or_else(PoisonError::into_inner).extend(held);
        self.start_over(position.seq, page, "the database was accepted as it is");
        position.restart(page);
    }

    fn start_over(&self, position: i64, page: &LogPage, reason: &'static str) {
        self.start_overs.one();
        let (oldest, newest) = (page.oldest, page.newest);
        tracing::warn!(position, oldest, newest, reason, "everything in memory is verified");
        self.memory.verify_all();
        self.hub.started_over(Revision(page.last().map_or(newest, |(seq, _)| *seq)), reason);
    }

    fn apply(&self, position: &mut Position, page: LogPage, database: &DatabaseIdentity) {
        self.events.add(page.entries.len() as u64);
        let reached = Revision(page.last().map_or(page.newest, |(seq, _)| *seq));
        if !position.begun {
            // What is in memory by now was read without anybody listening.
            self.memory.verify_all();
            self.hub.started_over(reached, "the change log is read from here on");
        } else if !page.about.is_empty() {
            self.memory.heard(&page.about);
            self.ends.lock().unwrap_or_else(PoisonError::into_inner).note(&page.changes, &page.about);
            let is_told =
                |(held, _): &HeldEnd| page.changes.iter().any(|change| change.subject == held.subject);
            self.held.lock().unwrap_or_else(PoisonError::into_inner).retain(|held| !is_told(held));
        }
        position.advance(&page);
        self.known.believe(database, Revision(position.seq), position.mark());
        let heartbeat = page.heartbeat;
        if let Some(beat) = heartbeat.beat {
            let age = u64::try_from(heartbeat.now.0 - heartbeat.at.0).unwrap_or_default();
            self.known.saw_heartbeat(beat, Duration::from_millis(age), self.clock.monotonic());
        }
        // Memory first: whoever is told and asks at once must not get the old answer.
        self.hub.changed(page.changes, reached);
    }
}

impl<L: ChangeLog, M: Forget> DatabaseWatch for Arc<Feed<L, M>> {
    fn state(&self) -> DatabaseState {
        DatabaseState {
            trust: self.known.trust(),
            standstill: self.known.standstill(self.clock.monotonic()),
            held: self.held(),
        }
    }

    async fn look(&self) -> Result<(), StoreError> {
        self.poll().await
    }
}
