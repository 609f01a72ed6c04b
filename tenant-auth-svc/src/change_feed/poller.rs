//! The change feed: reads the database's change log every quarter of a second and makes memory forget.
//!
//! One read over the log's primary key per poll, whatever happened: at the default interval 14,400 an hour and replica,
//! of three index entries each while idle.

mod cursor;
mod liveness;
mod prune;
mod revocations;

use std::{
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use tokio::sync::Mutex;

pub use self::liveness::{FeedLiveness, MAX_CLOCK_OFFSET, is_clock_offset_excessive};
use self::{
    cursor::{Continuity, FeedPosition},
    revocations::RecentRevocations,
};
use super::hub::Hub;
use crate::{
    domain::{
        change::Invalidate,
        change_log::{ChangeLog, LogPage},
        clock::SharedClock,
        identity::{DatabaseIdentity, DistrustReason},
        known_database::{KnownDatabase, lagging_error, untrusted_error},
        recovery::{DatabaseState, DatabaseWatch, HeldRevocation},
        store::{Call, FailureKind, Lane, StoreError},
        verdict::Revision,
    },
    instruments::counts::Counter,
};

/// After this long without a successful read the feed vouches for nothing.
pub const LIVENESS_TIMEOUT: Duration = Duration::from_secs(1);
/// How long one read may take at most. Shorter than [`LIVENESS_TIMEOUT`]: a hanging one must not be the reason for it.
const MAX_READ_TIMEOUT: Duration = Duration::from_millis(500);
/// The most events of one read. More are read at once after it.
const EVENTS_PER_PAGE: usize = 1_000;

/// The feed of one replica.
#[derive(Debug)]
pub struct FeedPoller<L, M> {
    log: L,
    cache: M,
    clock: SharedClock,
    liveness: Arc<FeedLiveness>,
    known: Arc<KnownDatabase>,
    hub: Hub,
    read_timeout: Duration,
    position: Mutex<FeedPosition>,
    recent_revocations: StdMutex<RecentRevocations>,
    /// Ends that the database may lack, and that hold all the same.
    held_revocations: StdMutex<Vec<HeldRevocation>>,
    events: Counter,
    discontinuities: Counter,
}

impl<L: ChangeLog, M: Invalidate> FeedPoller<L, M> {
    /// Reads the log of the database that is `known` through `log`, makes `memory` forget, tells through `heard` that it did,
    /// and passes on through `hub` what it read. A read may take as long as any call may, `timeout`, or half a second.
    pub fn new(
        log: L,
        memory: M,
        clock: SharedClock,
        heard: Arc<FeedLiveness>,
        known: Arc<KnownDatabase>,
        hub: Hub,
        timeout: Duration,
    ) -> Self {
        Self {
            log,
            cache: memory,
            clock,
            liveness: heard,
            known,
            hub,
            read_timeout: timeout.min(MAX_READ_TIMEOUT),
            position: Mutex::default(),
            recent_revocations: StdMutex::default(),
            held_revocations: StdMutex::default(),
            events: Counter::default(),
            discontinuities: Counter::default(),
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
    pub fn discontinuities(&self) -> u64 {
        self.discontinuities.get()
    }

    /// Ends that hold although the database may lack them: it was rolled back, and accepted as it is. They are to be made again.
    pub fn held_revocations(&self) -> Vec<HeldRevocation> {
        self.held_revocations.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
            let after = if position.is_started { position.seq } else { i64::MAX };
            let call = Call::within(Lane::Feed, self.read_timeout);
            let page = self.log.read_changes(call, after, EVENTS_PER_PAGE).await;
            let page = page.inspect_err(|error| self.distrust_if_empty(error))?;
            self.liveness.compare_clocks(asked_at, self.clock.now(), page.heartbeat.now);
            let database = self.verify_page(&mut position, &page, at)?;
            let more = page.entries.len() == EVENTS_PER_PAGE;
            self.apply_page(&mut position, page, &database);
            if !more {
                if self.known.is_unusable() {
                    // A copy that stands still says nothing about what has changed since.
                    return Err(lagging_error());
                }
                self.liveness.record_read(at);
                self.hub.publish_heartbeat();
                return Ok(());
            }
        }
    }

    /// A database without our tables is none that could be known.
    fn distrust_if_empty(&self, error: &StoreError) {
        if error.kind == FailureKind::SchemaMissing {
            self.known.distrust(DistrustReason::Empty, None, Revision(0));
        }
    }

    /// Whether what was read comes from the database that this replica knows, and goes on from where it has read.
    fn verify_page(
        &self,
        position: &mut FeedPosition,
        page: &LogPage,
        at: Duration,
    ) -> Result<DatabaseIdentity, StoreError> {
        let log_end = Revision(page.newest);
        let doubt = |doubt| {
            self.known.distrust(doubt, page.database.clone(), log_end);
            Err(untrusted_error())
        };
        let Some(found) = &page.database else { return doubt(DistrustReason::Another) };
        let known = self.known.trust().known;
        if known.as_ref().is_some_and(|known| found.was_accepted_instead_of(known)) {
            self.accept_database(position, page);
            return Ok(found.clone());
        }
        if known.is_some_and(|known| known != *found) {
            return doubt(DistrustReason::Another);
        }
        match position.check_continuity(page, at) {
            Continuity::Diverged => doubt(DistrustReason::RolledBack),
            Continuity::Behind => Err(lagging_error()),
            Continuity::Continuous => Ok(found.clone()),
            Continuity::Pruned => {
                self.handle_discontinuity(
                    position.seq,
                    page,
                    "the change log does not reach back to where it was read",
                );
                Ok(found.clone())
            }
        }
    }

    /// An operator has accepted the database as it is. What has ended since holds, whatever it says.
    fn accept_database(&self, position: &mut FeedPosition, page: &LogPage) {
        let mut ends = self.recent_revocations.lock().unwrap_or_else(PoisonError::into_inner);
        let common_end = Revision(position.last_common_seq());
        let held = ends.after(common_end);
        ends.truncate_after(common_end);
        self.cache.hold_revocations(&revocations::per_subject(&held));
        tracing::warn!(
            held = held.len(),
            "the database was accepted as it is; ends that it may lack are held"
        );
        self.held_revocations.lock().unwrap_or_else(PoisonError::into_inner).extend(held);
        self.handle_discontinuity(position.seq, page, "the database was accepted as it is");
        position.restart(page);
    }

    fn handle_discontinuity(&self, position: i64, page: &LogPage, reason: &'static str) {
        self.discontinuities.increment();
        let (oldest, newest) = (page.oldest, page.newest);
        tracing::warn!(position, oldest, newest, reason, "everything in memory is verified");
        self.cache.require_revalidation();
        self.hub.publish_discontinuity(Revision(page.last().map_or(newest, |(seq, _)| *seq)), reason);
    }

    fn apply_page(&self, position: &mut FeedPosition, page: LogPage, database: &DatabaseIdentity) {
        self.events.add(page.entries.len() as u64);
        let reached = Revision(page.last().map_or(page.newest, |(seq, _)| *seq));
        if !position.is_started {
            // What is in memory by now was read without anybody listening.
            self.cache.require_revalidation();
            self.hub.publish_discontinuity(reached, "the change log is read from here on");
        } else if !page.per_subject.is_empty() {
            self.cache.apply(&page.per_subject);
            self.recent_revocations
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .record(&page.invalidations, &page.per_subject);
            let is_told = |(held, _): &HeldRevocation| {
                page.invalidations.iter().any(|change| change.subject == held.subject)
            };
            self.held_revocations
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .retain(|held| !is_told(held));
        }
        position.advance(&page);
        self.known.confirm(database, Revision(position.seq), position.anchor());
        let heartbeat = page.heartbeat;
        if let Some(beat) = heartbeat.beat {
            let age = u64::try_from(heartbeat.now.0 - heartbeat.at.0).unwrap_or_default();
            self.known.record_copy_heartbeat(beat, Duration::from_millis(age), self.clock.monotonic());
        }
        // Memory first: whoever is told and asks at once must not get the old answer.
        self.hub.publish_changes(page.invalidations, reached);
    }
}

impl<L: ChangeLog, M: Invalidate> DatabaseWatch for Arc<FeedPoller<L, M>> {
    fn state(&self) -> DatabaseState {
        DatabaseState {
            trust: self.known.trust(),
            stalled_for: self.known.stalled_for(self.clock.monotonic()),
            held: self.held_revocations(),
        }
    }

    async fn poll_now(&self) -> Result<(), StoreError> {
        self.poll().await
    }
}
