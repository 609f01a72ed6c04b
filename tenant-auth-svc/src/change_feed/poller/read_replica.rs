//! The feed where a read replica of the database has a URL of its own.
//!
//! The read replica answers most polls. At least once a second the primary answers one, so that a change takes effect
//! whatever the read replica does, and the two can be compared.

use std::time::Duration;

use super::{EVENTS_PER_PAGE, FeedPoller, cursor::FeedPosition};
use crate::domain::{
    change::Invalidate,
    change_log::{ChangeLog, LogHeartbeat},
    clock::UnixMillis,
    known_database::{
        lagging_error,
        read_route::{LogState, PrimaryState, ReadRoute, ReadSource},
    },
    store::{Call, Lane, ReadFrom, StoreError},
};

/// Maximum duration of a read of the read replica, which is nearby. A longer one would delay the next read of the primary.
const MAX_READ_TIMEOUT: Duration = Duration::from_millis(250);

impl<L: ChangeLog, M: Invalidate> FeedPoller<L, M> {
    pub(super) async fn poll_nearest(
        &self,
        position: &mut FeedPosition,
        route: &ReadRoute,
    ) -> Result<(), StoreError> {
        let now = self.clock.monotonic();
        route.evaluate(now);
        if !route.is_check_due(now) {
            return self.poll_read_replica(position, route).await;
        }
        let outcome = self.poll_primary(position).await;
        let has_failed = outcome.as_ref().is_err_and(|error| error.kind.database_responds() == Some(false));
        if has_failed {
            route.record_primary_failure(now);
        }
        if !position.is_started || self.known.is_distrusted() {
            return outcome;
        }
        let now = self.clock.monotonic();
        match outcome {
            Err(_) if has_failed && route.source(now) == ReadSource::ReadReplica => {
                self.poll_read_replica(position, route).await
            }
            outcome => {
                if route.is_probe_due(now) {
                    // The route records what it shows.
                    let _ = self.poll_read_replica(position, route).await;
                }
                outcome
            }
        }
    }

    async fn poll_read_replica(
        &self,
        position: &mut FeedPosition,
        route: &ReadRoute,
    ) -> Result<(), StoreError> {
        let timeout = self.read_timeout.min(MAX_READ_TIMEOUT);
        loop {
            let (at, asked_at) = (self.clock.monotonic(), self.clock.now());
            let call = Call::within(Lane::Feed, timeout).reading_from(ReadFrom::ReadReplica);
            let page = self.log.read_changes(call, position.seq, EVENTS_PER_PAGE).await?;
            let known = self.known.trust().known;
            let Some(database) = page.database.clone().filter(|found| known.as_ref() == Some(found)) else {
                route.record_other_database(at, self.clock.monotonic());
                return Err(lagging_error());
            };
            if position.is_contradicted_by(&page) {
                route.record_other_database(at, self.clock.monotonic());
                return Err(lagging_error());
            }
            let (shown, heartbeat) = (log_state(page.newest, page.heartbeat), page.heartbeat);
            let more = page.entries.len() == EVENTS_PER_PAGE;
            // What lies before a gap comes from the primary.
            if position.is_continued_by(&page) {
                self.apply_page(position, page, &database);
            }
            let now = self.clock.monotonic();
            route.record_read_replica(shown, at, now);
            self.record_heartbeat_of_read_replica(route, shown.beat, heartbeat, (now, asked_at));
            if more {
                continue;
            }
            if self.known.is_unusable() || !route.is_confirmed(now) {
                return Err(lagging_error());
            }
            self.liveness.record_read(at);
            self.hub.publish_heartbeat();
            return Ok(());
        }
    }

    /// Records the end of the primary's log, when everything before it is applied.
    pub(super) fn record_primary(&self, end: i64, heartbeat: LogHeartbeat, asked_at: Duration) {
        let Some(route) = self.known.read_route() else { return };
        // If the database's clock was set back, the age is unknown.
        let beat_at = heartbeat.age().map_or(Duration::ZERO, |age| asked_at.saturating_sub(age));
        route.record_primary(PrimaryState {
            log: log_state(end, heartbeat),
            asked_at,
            beat_at,
            answered_at: self.clock.monotonic(),
        });
    }

    /// The age counts by the primary's clock: that of the read replica may differ.
    fn record_heartbeat_of_read_replica(
        &self,
        route: &ReadRoute,
        beat: i64,
        heartbeat: LogHeartbeat,
        (now, wall): (Duration, UnixMillis),
    ) {
        let primary_now = self.liveness.clock_offset().map_or(heartbeat.now.0, |offset| wall.0 - offset);
        let age = u64::try_from(primary_now - heartbeat.at.0).unwrap_or_default();
        let age = Duration::from_millis(age);
        if route.is_newest_heartbeat(beat) {
            self.known.record_read_replica_heartbeat(beat, age, now);
        } else {
            self.known.record_older_heartbeat(age, now);
        }
    }
}

fn log_state(end: i64, heartbeat: LogHeartbeat) -> LogState {
    LogState { position: end, beat: heartbeat.beat.unwrap_or_default() }
}
