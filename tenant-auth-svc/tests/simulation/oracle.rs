//! Records every state and what each replica has polled, and decides which answers that allows.

mod retained_revocations;
mod verdict_rules;

use std::{collections::HashMap, time::Duration};

use tenant_auth_svc::domain::verdict::{Source, Verdict};

pub(crate) use self::retained_revocations::KnownRevocations;
use self::retained_revocations::RetainedByReplica;
use super::history::{EventOrder, History, KeyRow};

/// `TENANT_AUTH_CACHE_GRACE`: shorter than the default, so that it ends within the simulation.
pub(crate) const GRACE: Duration = Duration::from_secs(20 * 60);

/// A time of the simulation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SimulatedTime {
    pub(crate) monotonic: Duration,
    pub(crate) wall: i64,
}

/// An answer of a replica.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ObservedAnswer {
    pub(crate) verdict: Verdict,
    pub(crate) source: Source,
    pub(crate) answer_age: Duration,
}

/// What one replica can know.
#[derive(Debug, Default)]
struct ReplicaKnowledge {
    started: EventOrder,
    /// The event up to which its last successful poll of the feed reported changes.
    polled_up_to: EventOrder,
    polled_at: Option<Duration>,
    /// Ranges between two polls for which it was told to revalidate everything instead of receiving the
    /// changes.
    skipped_ranges: Vec<(EventOrder, EventOrder)>,
    /// The last poll that required it to revalidate everything.
    last_revalidation: EventOrder,
    /// Its first poll: it knows all changes reported from there on.
    first_polled: Option<EventOrder>,
    /// The log does not continue from its position, and it has not noticed yet.
    log_broken: bool,
    /// It has loaded a key since its feed became live after the last outage, so no breaker delays its reads
    /// any more.
    has_read_since_outage: bool,
    /// It has polled the feed since the last outage.
    has_polled_since_outage: bool,
    /// It has noticed that its read replica is stalled.
    read_replica_is_stalled: bool,
    /// Its own changes, made or attempted, by digest or tenant.
    own_changes: HashMap<String, EventOrder>,
    /// Its own changes that were acknowledged.
    acknowledged_changes: HashMap<String, EventOrder>,
    /// Its own last change.
    last_own_change: EventOrder,
    /// Keys that it has imported or tried to import: it has dropped their negative entries, but may still
    /// hold an older record.
    imported: HashMap<String, EventOrder>,
    /// When it last loaded each key from the database.
    read: HashMap<String, (EventOrder, Duration)>,
    /// Revocations that it knew before the database was rolled back past them, by id.
    retained_revocations: HashMap<String, RetainedByReplica>,
}

impl ReplicaKnowledge {
    fn own_change_of(&self, subject: &str) -> EventOrder {
        self.own_changes.get(subject).copied().unwrap_or_default()
    }

    fn acknowledged_change_of(&self, subject: &str) -> EventOrder {
        self.acknowledged_changes.get(subject).copied().unwrap_or_default()
    }

    /// Returns whether the feed has reported the change of an event.
    fn was_reported(&self, order: EventOrder) -> bool {
        let is_skipped = |(from, to): &(EventOrder, EventOrder)| (*from..*to).contains(&order);
        order < self.polled_up_to && (order < self.started || !self.skipped_ranges.iter().any(is_skipped))
    }
}

/// The state of the database's reads, for all replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadsState {
    Working,
    /// Reads fail.
    Failing,
    /// Reads work, but in a database other than the known one.
    OtherDatabase,
}

/// The model. It identifies keys by the digest of their plaintext, and tenants by their id.
#[derive(Debug)]
pub(crate) struct Oracle {
    order: EventOrder,
    keys: HashMap<String, History<Option<KeyRow>>>,
    tenants: HashMap<String, History<bool>>,
    /// The last write to each key or tenant, including writes that changed nothing.
    touched: HashMap<String, EventOrder>,
    views: Vec<ReplicaKnowledge>,
    reads: ReadsState,
    /// The replica that reads from a read replica, and the times when that caught up with the database.
    read_replica: Option<(usize, Vec<(EventOrder, Duration)>)>,
}

impl Oracle {
    pub(crate) fn new(replicas: usize, at_a_read_replica: Option<usize>) -> Self {
        let views = (0..replicas)
            .map(|_| ReplicaKnowledge { has_read_since_outage: true, ..ReplicaKnowledge::default() })
            .collect();
        Self {
            order: 0,
            keys: HashMap::new(),
            tenants: HashMap::new(),
            touched: HashMap::new(),
            views,
            reads: ReadsState::Working,
            read_replica: at_a_read_replica.map(|replica| (replica, Vec::new())),
        }
    }

    /// Returns the position of the next event.
    pub(crate) fn next_order(&mut self) -> EventOrder {
        self.order += 1;
        self.order
    }

    pub(crate) fn begin_trouble(&mut self, reads: ReadsState) {
        self.reads = reads;
        self.views
            .iter_mut()
            .for_each(|view| (view.has_read_since_outage, view.has_polled_since_outage) = (false, false));
    }

    pub(crate) fn end_trouble(&mut self) {
        self.reads = ReadsState::Working;
    }

    /// Returns whether reads work for all replicas.
    pub(crate) fn reads_work(&self) -> bool {
        self.reads == ReadsState::Working
    }

    /// Returns whether a replica's reads are reliable.
    fn is_reachable(&self, replica: usize) -> bool {
        let view = &self.views[replica];
        self.reads_work() && view.has_read_since_outage && !view.read_replica_is_stalled
    }

    /// Returns whether the feed has reported the change of an event to a replica.
    pub(crate) fn was_reported(&self, replica: usize, order: EventOrder) -> bool {
        self.views[replica].was_reported(order)
    }

    /// Records that the change log was pruned or replaced.
    pub(crate) fn break_log(&mut self) {
        self.views.iter_mut().for_each(|view| view.log_broken = true);
    }

    pub(crate) fn restart_replica(&mut self, replica: usize) {
        let order = self.next_order();
        let works = self.reads_work();
        self.views[replica] = ReplicaKnowledge {
            started: order,
            polled_up_to: order,
            has_read_since_outage: works,
            ..ReplicaKnowledge::default()
        };
    }

    /// Records that the read replica has caught up with the database.
    pub(crate) fn read_replica_caught_up(&mut self, now: SimulatedTime) {
        let order = self.next_order();
        if let Some((_, times)) = &mut self.read_replica {
            times.push((order, now.monotonic));
        }
    }

    /// Returns the event and the time up to which a replica's reads show changes; `None` if they show
    /// everything.
    fn visible_up_to(&self, replica: usize) -> Option<(EventOrder, Duration)> {
        let (at_the_read_replica, times) = self.read_replica.as_ref()?;
        (*at_the_read_replica == replica).then(|| times.last().copied().unwrap_or_default())
    }

    /// Returns when a replica's reads showed an event; `None` if they do not yet.
    fn visible_at(&self, replica: usize, order: EventOrder, at: Duration) -> Option<Duration> {
        match &self.read_replica {
            Some((at_the_read_replica, times)) if *at_the_read_replica == replica => {
                let first = times.partition_point(|(caught_up, _)| *caught_up < order);
                times.get(first).map(|(_, time)| (*time).max(at))
            }
            _ => Some(at),
        }
    }

    /// Records that a replica has polled the feed to its end. The poll started as event `order`.
    pub(crate) fn record_feed_poll(
        &mut self,
        replica: usize,
        order: EventOrder,
        now: SimulatedTime,
        log_is_empty: bool,
    ) {
        let order = self.visible_up_to(replica).map_or(order, |(shown, _)| shown.min(order));
        let touched = &self.touched;
        let view = &mut self.views[replica];
        // The first poll finds changes that were made before the replica started to poll.
        if view.log_broken || view.first_polled.is_none() {
            view.skipped_ranges.push((view.polled_up_to, order));
            view.last_revalidation = order;
        }
        view.first_polled.get_or_insert(order);
        for retained in view.retained_revocations.values_mut() {
            // The database has reported a later change, so its state applies from then on.
            if touched.get(&retained.subject).is_some_and(|at| *at > retained.since && *at < order) {
                retained.is_sure = false;
            }
        }
        (view.polled_up_to, view.polled_at) = (order, Some(now.monotonic));
        // After an empty log, the replica cannot know whether the next entries are complete.
        (view.log_broken, view.has_polled_since_outage, view.read_replica_is_stalled) =
            (log_is_empty, true, false);
    }

    /// Records that a replica reports its read replica as stalled.
    pub(crate) fn record_stalled_read_replica(&mut self, replica: usize) {
        self.views[replica].read_replica_is_stalled = true;
    }

    pub(crate) fn record_touch(&mut self, order: EventOrder, subject: &str) {
        self.touched.insert(subject.to_owned(), order);
    }

    /// Records a change that a replica made or attempted.
    pub(crate) fn record_change(
        &mut self,
        replica: usize,
        order: EventOrder,
        subject: &str,
        acknowledged: bool,
    ) {
        self.record_touch(order, subject);
        // A read replica need not show a change that may not have happened.
        if acknowledged || self.visible_up_to(replica).is_none() {
            let view = &mut self.views[replica];
            view.own_changes.insert(subject.to_owned(), order);
            view.last_own_change = order;
            if acknowledged {
                view.acknowledged_changes.insert(subject.to_owned(), order);
            }
            let about_it = view
                .retained_revocations
                .values_mut()
                .filter(|retained| acknowledged && retained.subject == subject);
            about_it.for_each(|retained| retained.is_sure = false);
        }
    }

    /// Records that a replica imported a key or tried to.
    pub(crate) fn record_import(
        &mut self,
        replica: usize,
        order: EventOrder,
        digest: &str,
        acknowledged: bool,
    ) {
        self.record_touch(order, digest);
        if acknowledged || self.visible_up_to(replica).is_none() {
            self.views[replica].imported.insert(digest.to_owned(), order);
            self.views[replica].last_own_change = order;
        }
    }

    /// Records that a replica issued a key.
    pub(crate) fn record_issue(&mut self, replica: usize, order: EventOrder, digest: &str) {
        self.record_touch(order, digest);
        self.views[replica].last_own_change = order;
    }

    /// Records the contents of the database after event `order`: all keys by digest, and whether each tenant
    /// is suspended.
    pub(crate) fn record_database(
        &mut self,
        order: EventOrder,
        now: SimulatedTime,
        keys: HashMap<String, KeyRow>,
        tenants: &HashMap<String, bool>,
    ) {
        for (digest, history) in &mut self.keys {
            history.change_at(order, now.monotonic, &keys.get(digest).cloned());
        }
        for (digest, key) in keys {
            let history = self.keys.entry(digest).or_insert_with(|| History::new(None));
            history.change_at(order, now.monotonic, &Some(key));
        }
        for (tenant, suspended) in tenants {
            let history = self.tenants.entry(tenant.clone()).or_insert_with(|| History::new(*suspended));
            history.change_at(order, now.monotonic, suspended);
        }
    }

    /// Returns the current state of a key in the database.
    pub(crate) fn key(&self, digest: &str) -> Option<&KeyRow> {
        self.keys.get(digest)?.last().as_ref()
    }

    /// Returns all keys that are in the database now.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &KeyRow> {
        self.keys.values().filter_map(|history| history.last().as_ref())
    }

    pub(crate) fn is_suspended(&self, tenant: &str) -> bool {
        *self.tenants[tenant].last()
    }
}
