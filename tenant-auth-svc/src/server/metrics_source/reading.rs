//! What the history of the console keeps: numbers, without their names.

use super::MetricsSources;
use crate::{
    console::history::Reading,
    domain::{
        clock::Moment,
        session::SessionVerdict,
        store::{FailureKind, Lane, Operation},
        verdict::Source,
    },
    forward::counts::Door,
    grpc::{permits::Limiter, rpc_type::RpcType, tally::TallyKind},
    instruments::durations::{BUCKET_BOUNDS, Distribution},
    ops::status::FeedStatus,
};

impl MetricsSources {
    /// Reads the counters: some ten thousand loads, which take less than a millisecond.
    pub(in crate::server) fn reading(&self) -> Reading {
        let now = Moment::now(&self.status_sources.clock);
        let count = |what| self.rpc_metrics.decision_count(what);
        let mut requests = [0; 4];
        let [admitted, denied, undecided, shed] = &mut requests;
        let mut sources = [0; Source::ALL.len()];
        for what in TallyKind::all() {
            match what {
                TallyKind::Verdict(SessionVerdict::VALID) => *admitted += count(what),
                TallyKind::Verdict(_) => *denied += count(what),
                TallyKind::Failure(_) | TallyKind::NotTried => *undecided += count(what),
                TallyKind::Source(source) => {
                    if let Some(of_source) = sources.get_mut(source as usize) {
                        *of_source = count(what);
                    }
                }
            }
        }
        *shed = self.limiters.named().iter().map(|(_, limiter): &(_, &Limiter)| limiter.refused()).sum();
        Reading {
            requests,
            durations: self.durations(),
            sources,
            database_calls: Lane::ALL.map(|lane| self.calls(lane)),
            feed_lag: match self.status_sources.feed_status(now) {
                FeedStatus::Off | FeedStatus::NotYetLive => None,
                FeedStatus::Live(ago) => Some(ago),
                FeedStatus::SilentSince(at) => Some(now.since(at)),
            },
            oldest_answer: self.status_sources.oldest_answer.within_last_minute(now.monotonic),
            cache_entries: {
                let (keys, sessions) = (self.key_cache.0.size(), self.session_cache.0.size());
                keys.records + keys.negative_entries + sessions.records + sessions.negative_entries
            },
            usage_queue: self.usage_batcher.queued_events() as u64,
        }
    }

    /// How long requests of daily traffic took. A stream lives for days, and says nothing about a request.
    fn durations(&self) -> Vec<(f64, u64)> {
        let mut all = Distribution::default();
        for rpc in self.rpc_metrics.counters() {
            if rpc.labels.is_routine() && rpc.labels.rpc_type == RpcType::Unary {
                all.add(&rpc.latency());
            }
        }
        // The other doors are no RPCs.
        for door in Door::ALL.into_iter().filter(|door| *door != Door::ExtAuthz) {
            all.add(&self.door_counts.duration(door));
        }
        let bounds = BUCKET_BOUNDS.into_iter().chain([f64::INFINITY]);
        bounds.zip(all.buckets).collect()
    }

    fn calls(&self, lane: Lane) -> u64 {
        let observed = self.status_sources.database_client.observer();
        let outcomes = || std::iter::once(None).chain(FailureKind::ALL.map(Some));
        let of =
            |operation| outcomes().map(move |outcome| observed.latency(operation, lane, outcome).count());
        Operation::ALL.into_iter().flat_map(of).sum()
    }
}
