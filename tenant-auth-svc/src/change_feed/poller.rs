//! The change feed: polls the database's change log every quarter of a second and invalidates cached records.
//!
//! Each poll is one read over the primary key of the log, also when nothing has changed. At the default
//! interval this is 14,400 reads per hour and replica, of three index entries each while idle.

mod cursor;
mod liveness;
mod prune;
mod read_replica;
mod revocations;

use std::{
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use tokio::sync::{Mutex, watch};

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
        recovery::{DatabaseState, DatabaseWatch, RetainedRevocation},
        store::{Call, FailureKind, Lane, StoreError},
        verdict::Revision,
    },
    instruments::counts::Counter,
};

/// Without a successful read for this long, the feed is not live.
pub const LIVENESS_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum duration of one read. It is shorter than [`LIVENESS_TIMEOUT`], so one hanging read does not reach
/// that timeout.
const MAX_READ_TIMEOUT: Duration = Duration::from_millis(500);
/// Maximum number of events per read. Further events are read at once afterwards.
const EVENTS_PER_PAGE: usize = 1_000;

/// Polls the change log for one replica.
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
    /// Revocations that the database may lack and that are enforced nevertheless.
    retained_revocations: StdMutex<Vec<RetainedRevocation>>,
    /// The position up to which the cache reflects all changes.
    applied: watch::Sender<Revision>,
    events: Counter,
    discontinuities: Counter,
}

impl<L: ChangeLog, M: Invalidate> FeedPoller<L, M> {
    /// Creates a poller that reads the log of the `known` database through `log`, invalidates `cache`,
    /// reports reads to `liveness`, and publishes changes through `hub`. A read may take `timeout`, at most
    /// half a second.
    pub fn new(
        log: L,
        cache: M,
        clock: SharedClock,
        liveness: Arc<FeedLiveness>,
        known: Arc<KnownDatabase>,
        hub: Hub,
        timeout: Duration,
    ) -> Self {
        Self {
            log,
            cache,
            clock,
            liveness,
            known,
            hub,
            read_timeout: timeout.min(MAX_READ_TIMEOUT),
            position: Mutex::default(),
            recent_revocations: StdMutex::default(),
            retained_revocations: StdMutex::default(),
            applied: watch::Sender::default(),
            events: Counter::default(),
            discontinuities: Counter::default(),
        }
    }

    /// Returns the hub that publishes what was read.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Returns the position up to which all changes are applied. It can go back if the database was rolled back.
    pub fn applied(&self) -> watch::Receiver<Revision> {
        self.applied.subscribe()
    }

    /// Returns the number of changes read.
    pub fn events(&self) -> u64 {
        self.events.get()
    }

    /// Returns the number of change-log discontinuities.
    pub fn discontinuities(&self) -> u64 {
        self.discontinuities.get()
    }

    /// Returns the revocations that are enforced although the database may lack them, because it was rolled
    /// back and accepted as it is. An operator has to reapply them.
    pub fn retained_revocations(&self) -> Vec<RetainedRevocation> {
        self.retained_revocations.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads all new entries, and then reports the feed as live. Where a read replica of the database has a URL of its own,
    /// the entries come from there, and at least once a second from the primary.
    ///
    /// # Errors
    /// When the database returns no complete result: the position stays, and the next poll reads from there.
    /// When it is not the known database, or the read replica is lagging or stalled.
    pub async fn poll(&self) -> Result<(), StoreError> {
        let mut position = self.position.lock().await;
        match self.known.read_route() {
            Some(route) => self.poll_nearest(&mut position, route).await,
            None => self.poll_primary(&mut position).await,
        }
    }

    async fn poll_primary(&self, position: &mut FeedPosition) -> Result<(), StoreError> {
        loop {
            // Times from before the read: it may miss a change that commits during it.
            let (at, asked_at) = (self.clock.monotonic(), self.clock.now());
            // The first read only determines where the log ends.
            let after = if position.is_started { position.seq } else { i64::MAX };
            let call = Call::within(Lane::Feed, self.read_timeout);
            let page = self.log.read_changes(call, after, EVENTS_PER_PAGE).await;
            let page = page.inspect_err(|error| self.distrust_if_empty(error))?;
            self.liveness.compare_clocks(asked_at, self.clock.now(), page.heartbeat.now);
            let database = self.verify_page(position, &page, at)?;
            let more = page.entries.len() == EVENTS_PER_PAGE;
            let (end, heartbeat) = (page.newest, page.heartbeat);
            self.apply_page(position, page, &database);
            if let Some(beat) = heartbeat.beat {
                let age = heartbeat.age().unwrap_or_default();
                self.known.record_read_replica_heartbeat(beat, age, self.clock.monotonic());
            }
            if !more {
                self.record_primary(end, heartbeat, at);
                if self.known.is_unusable() {
                    // A stalled read replica does not show recent changes.
                    return Err(lagging_error());
                }
                self.liveness.record_read(at);
                self.hub.publish_heartbeat();
                return Ok(());
            }
        }
    }

    /// Distrusts the database if it lacks our tables: it cannot be the known one.
    fn distrust_if_empty(&self, error: &StoreError) {
        if error.kind == FailureKind::SchemaMissing {
            self.known.distrust(DistrustReason::Empty, None, Revision(0));
        }
    }

    /// Checks that a page comes from the known database and continues from the position.
    fn verify_page(
        &self,
        position: &mut FeedPosition,
        page: &LogPage,
        at: Duration,
    ) -> Result<DatabaseIdentity, StoreError> {
        let log_end = Revision(page.newest);
        let distrust = |reason| {
            self.known.distrust(reason, page.database.clone(), log_end);
            Err(untrusted_error())
        };
        let Some(found) = &page.database else { return distrust(DistrustReason::Another) };
        let known = self.known.trust().known;
        if known.as_ref().is_some_and(|known| found.was_accepted_instead_of(known)) {
            self.accept_database(position, page);
            return Ok(found.clone());
        }
        if known.is_some_and(|known| known != *found) {
            return distrust(DistrustReason::Another);
        }
        match position.check_continuity(page, at) {
            Continuity::Diverged => distrust(DistrustReason::RolledBack),
            Continuity::Behind => Err(lagging_error()),
            Continuity::Continuous => Ok(found.clone()),
            Continuity::Pruned => {
                self.handle_discontinuity(
                    position.seq,
                    page,
                    "the change log was pruned past the last position that was read",
                );
                Ok(found.clone())
            }
        }
    }

    /// Handles a database that an operator accepted as it is: known revocations stay enforced even if it
    /// lacks them.
    fn accept_database(&self, position: &mut FeedPosition, page: &LogPage) {
        let mut revocations = self.recent_revocations.lock().unwrap_or_else(PoisonError::into_inner);
        let last_common = Revision(position.last_common_seq());
        let retained = revocations.after(last_common);
        revocations.truncate_after(last_common);
        self.cache.retain_revocations(&revocations::per_subject(&retained));
        tracing::warn!(
            retained = retained.len(),
            "database accepted as it is; revocations that it may lack stay enforced"
        );
        self.retained_revocations.lock().unwrap_or_else(PoisonError::into_inner).extend(retained);
        self.handle_discontinuity(position.seq, page, "the database was accepted as it is");
        position.restart(page);
    }

    fn handle_discontinuity(&self, position: i64, page: &LogPage, reason: &'static str) {
        self.discontinuities.increment();
        let (oldest, newest) = (page.oldest, page.newest);
        tracing::warn!(
            position,
            oldest,
            newest,
            reason,
            "change-log discontinuity; all cached records are revalidated"
        );
        self.cache.require_revalidation();
        self.hub.publish_discontinuity(Revision(page.last().map_or(newest, |(seq, _)| *seq)), reason);
    }

    fn apply_page(&self, position: &mut FeedPosition, page: LogPage, database: &DatabaseIdentity) {
        self.events.add(page.entries.len() as u64);
        let reached = Revision(page.last().map_or(page.newest, |(seq, _)| *seq));
        if !position.is_started {
            // Cached records were loaded before the feed was live.
            self.cache.require_revalidation();
            self.hub.publish_discontinuity(
                reached,
                "this replica starts to read the change log at this revision",
            );
        } else if !page.per_subject.is_empty() {
            self.cache.apply(&page.per_subject);
            self.recent_revocations
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .record(&page.invalidations, &page.per_subject);
            let is_reported = |(retained, _): &RetainedRevocation| {
                page.invalidations.iter().any(|change| change.subject == retained.subject)
            };
            self.retained_revocations
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .retain(|retained| !is_reported(retained));
        }
        position.advance(&page);
        self.known.confirm(database, Revision(position.seq), position.anchor());
        self.applied.send_replace(Revision(position.seq));
        // Invalidate the cache first: a subscriber that reacts to the event must not get the old answer.
        self.hub.publish_changes(page.invalidations, reached);
    }
}

impl<L: ChangeLog, M: Invalidate> DatabaseWatch for Arc<FeedPoller<L, M>> {
    fn state(&self) -> DatabaseState {
        DatabaseState {
            trust: self.known.trust(),
            stalled_for: self.known.stalled_for(self.clock.monotonic()),
            retained: self.retained_revocations(),
        }
    }

    async fn poll_now(&self) -> Result<(), StoreError> {
        self.poll().await
    }
}
