//! Gathers what `/readyz` tells from those who know it.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use tokio::sync::watch;

use super::{
    Hop,
    coverage::CoverageProbe,
    readiness::{Readiness, State},
    reload::Reloading,
};
use crate::{
    cache::oldest::Oldest,
    change_feed::reader::Heard,
    database::sql::peppers::PepperGap,
    domain::{
        clock::{Moment, SharedClock},
        deny::Denied,
        store::{Circuit, Lane, Operation},
    },
    ops::{
        Look,
        facts::{Facts, Feed, Phase, Writes},
    },
};

/// Those who know.
#[derive(Clone)]
pub(super) struct Witnesses {
    pub(super) clock: SharedClock,
    pub(super) readiness: watch::Receiver<Readiness>,
    /// When the service was told to stop.
    pub(super) stopping: Arc<OnceLock<Moment>>,
    pub(super) hop: Hop,
    /// `None` when the change feed is off.
    pub(super) heard: Option<Arc<Heard>>,
    pub(super) oldest: Arc<Oldest>,
    pub(super) files: Reloading,
    pub(super) peppers: Arc<PepperGap>,
    pub(super) coverage: CoverageProbe,
    pub(super) denied: Arc<Denied>,
}

impl Witnesses {
    /// For whoever wants to know, as often as they like.
    pub(super) fn look(self) -> Look {
        Arc::new(move || self.facts())
    }

    pub(super) fn facts(&self) -> Facts {
        let now = Moment::now(&self.clock);
        let (phase, since) = self.phase();
        let (breaker, observed, writes) = (self.hop.breaker(), self.hop.observed(), self.hop.writes());
        let reads = observed.condition(Operation::Read);
        let doubt = self.hop.known().trust().doubt;
        let standstill = self.hop.known().standstill(now.monotonic);
        // Whichever of them it is, memory answers in its place.
        let fails_since = reads.filter(|condition| !condition.works()).map(|condition| condition.since);
        let doubted_since = doubt.map(|(_, since)| since);
        let stands_still_since = standstill.map(|time| now.before(time));
        let away_since = [fails_since, doubted_since, stands_still_since]
            .into_iter()
            .flatten()
            .min_by_key(|at| at.monotonic);
        Facts {
            now,
            phase,
            since,
            reads,
            doubt,
            standstill,
            clock_offset: self.heard.as_ref().and_then(|heard| heard.clock_offset()),
            scheduler_lag: self.hop.lag().longest(Instant::now()),
            writes: Writes {
                condition: observed.condition(Operation::Write),
                waiting: Lane::ALL.iter().map(|lane| writes.waiting(*lane)).sum(),
                under_way_for: writes.under_way_for(),
            },
            open_circuits: Circuit::ALL.map(|circuit| breaker.is_open(circuit)),
            feed: self.feed(now),
            oldest_answer: self.oldest.within_last_minute(now.monotonic),
            grace: self.coverage.facts(now, away_since),
            files: self.files.refused(),
            expiries: self.files.expiries(),
            denied: self.denied.counts().total(),
            pepper_missing: self.peppers.id().map(|id| id.as_str().to_owned()),
        }
    }

    fn phase(&self) -> (Phase, Moment) {
        if let Some(since) = self.stopping.get() {
            return (Phase::Stopping, *since);
        }
        let readiness = self.readiness.borrow();
        let phase = match &readiness.state {
            State::Waiting => Phase::Waiting,
            State::Ready => Phase::Ready,
            State::Unusable(error) => Phase::Unusable(error.kind()),
        };
        (phase, readiness.since)
    }

    fn feed(&self, now: Moment) -> Feed {
        let Some(heard) = &self.heard else { return Feed::Off };
        match heard.last() {
            None => Feed::NotHeard,
            Some(at) => {
                let ago = now.monotonic.saturating_sub(at);
                if heard.recently(now.monotonic) {
                    Feed::Heard(ago)
                } else {
                    Feed::SilentSince(now.before(ago))
                }
            }
        }
    }
}
