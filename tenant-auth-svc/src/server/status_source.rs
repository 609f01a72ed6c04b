//! Collects the status of the service for `/readyz`.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use tokio::sync::watch;

use super::{coverage::CoverageProbe, reload::FileReloader};
use crate::{
    cache::oldest_answer::OldestAnswerAge,
    change_feed::poller::FeedLiveness,
    database::{client::DatabaseClient, sql::peppers::MissingPepper},
    domain::{
        clock::{Moment, SharedClock},
        deny::ActiveDenyList,
        store::{Circuit, Lane, Operation},
    },
    jobs::readiness::{Readiness, ReadinessState},
    ops::{
        StatusCheck,
        status::{FeedStatus, LifecyclePhase, ServiceStatus, WriteStatus},
    },
    service_types::ServiceLimits,
};

/// The sources of the status.
#[derive(Clone)]
pub(super) struct StatusSources {
    pub(super) clock: SharedClock,
    pub(super) readiness: watch::Receiver<Readiness>,
    /// When the stop began.
    pub(super) stopping_since: Arc<OnceLock<Moment>>,
    pub(super) database_client: DatabaseClient,
    /// `None` when the change feed is off.
    pub(super) feed_liveness: Option<Arc<FeedLiveness>>,
    pub(super) oldest_answer: Arc<OldestAnswerAge>,
    pub(super) file_reloader: FileReloader,
    pub(super) pepper_gap: Arc<MissingPepper>,
    pub(super) coverage_probe: CoverageProbe,
    pub(super) denied: Arc<ActiveDenyList>,
    pub(super) limits: ServiceLimits,
}

impl StatusSources {
    /// Returns the status check of the ops server. It may be called at any rate.
    pub(super) fn into_status_check(self) -> StatusCheck {
        Arc::new(move || self.status())
    }

    pub(super) fn status(&self) -> ServiceStatus {
        let now = Moment::now(&self.clock);
        let (phase, since) = self.lifecycle_phase();
        let (breaker, observed, writes) = (
            self.database_client.breaker(),
            self.database_client.observer(),
            self.database_client.write_queue(),
        );
        let reads = observed.condition(Operation::Read);
        let known_database = self.database_client.known_database();
        let distrust = known_database.trust().distrust;
        let stalled_for = known_database.stalled_for(now.monotonic);
        // In each of these cases the cache serves in place of the database.
        let failing_since =
            reads.filter(|condition| !condition.is_healthy()).map(|condition| condition.since);
        let distrusted_since = distrust.map(|(_, since)| since);
        let stalled_since = stalled_for.map(|time| now.before(time));
        let away_since = [failing_since, distrusted_since, stalled_since]
            .into_iter()
            .flatten()
            .min_by_key(|at| at.monotonic);
        ServiceStatus {
            now,
            phase,
            phase_since: since,
            reads,
            distrust,
            read_replica_stalled_for: stalled_for,
            read_route: known_database.read_route().map(|route| route.status(now.monotonic)),
            clock_offset: self.feed_liveness.as_ref().and_then(|liveness| liveness.clock_offset()),
            scheduler_lag: self.database_client.lag().max_recent_lag(Instant::now()),
            writes: WriteStatus {
                condition: observed.condition(Operation::Write),
                waiting: Lane::ALL.iter().map(|lane| writes.queued(*lane)).sum(),
                under_way_for: writes.in_flight_for(),
            },
            open_circuits: Circuit::ALL.map(|circuit| breaker.is_open(circuit)),
            feed: self.feed_status(now),
            oldest_answer: self.oldest_answer.within_last_minute(now.monotonic),
            grace: self.coverage_probe.grace_status(now, away_since),
            files: self.file_reloader.file_status(),
            expiries: self.file_reloader.expiries(),
            denied_entries: self.denied.counts().total(),
            limits: self.limits.condition(),
            pepper_missing: self.pepper_gap.id().map(|id| id.as_str().to_owned()),
        }
    }

    fn lifecycle_phase(&self) -> (LifecyclePhase, Moment) {
        if let Some(since) = self.stopping_since.get() {
            return (LifecyclePhase::Stopping, *since);
        }
        let readiness = self.readiness.borrow();
        let phase = match &readiness.state {
            ReadinessState::Waiting => LifecyclePhase::Waiting,
            ReadinessState::Ready => LifecyclePhase::Ready,
            ReadinessState::Unusable(error) => LifecyclePhase::Unusable(error.kind()),
        };
        (phase, readiness.since)
    }

    pub(super) fn feed_status(&self, now: Moment) -> FeedStatus {
        let Some(liveness) = &self.feed_liveness else { return FeedStatus::Off };
        match liveness.last_read_at() {
            None => FeedStatus::NotYetLive,
            Some(at) => {
                let ago = now.monotonic.saturating_sub(at);
                if liveness.is_alive(now.monotonic) {
                    FeedStatus::Live(ago)
                } else {
                    FeedStatus::SilentSince(now.before(ago))
                }
            }
        }
    }
}
