//! Knows what was true when, and what each replica has heard; says which answers that allows.

mod held;
mod judgement;

use std::{collections::HashMap, time::Duration};

use tenant_auth_svc::domain::verdict::{Source, Verdict};

use self::held::Held;
pub(crate) use self::held::Known;
use super::history::{History, Key, Order};

/// `TENANT_AUTH_CACHE_GRACE`: shorter than the default, so that it ends within the simulation.
pub(crate) const GRACE: Duration = Duration::from_secs(20 * 60);

/// A moment, as the simulation sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) monotonic: Duration,
    pub(crate) wall: i64,
}

/// An answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub(crate) verdict: Verdict,
    pub(crate) source: Source,
    pub(crate) age: Duration,
}

/// What one replica can know.
#[derive(Debug, Default)]
struct View {
    started: Order,
    /// Up to where it was told by its last successful reading of the feed.
    heard: Order,
    heard_at: Option<Duration>,
    /// From one reading to another that told it to verify everything, instead of what had changed in between.
    untold: Vec<(Order, Order)>,
    /// The last one that made it verify everything.
    verified: Order,
    /// Its first one: what it tells of from there on, the replica has heard of.
    first_heard: Option<Order>,
    /// The log does not go on from where it has read, and it has not noticed yet.
    log_broken: bool,
    /// It has read a key since it heard the feed again after the last outage: whatever waited behind a circuit is over.
    works: bool,
    /// It has heard the feed since the last outage.
    is_back: bool,
    /// It has noticed that the copy from which it reads stands still.
    stands_still: bool,
    /// Its own changes, done or attempted, by digest or tenant.
    own: HashMap<String, Order>,
    /// Those that were acknowledged.
    acknowledged: HashMap<String, Order>,
    /// The last change of its own.
    last_own: Order,
    /// Keys that it has imported, or tried to: it no longer takes them for absent. A record of before it may still have.
    imported: HashMap<String, Order>,
    /// When it last read a key from the database.
    read: HashMap<String, (Order, Duration)>,
    /// Ends that it knew before the database was rolled back to before them, by id.
    held: HashMap<String, Held>,
}

impl View {
    fn own(&self, subject: &str) -> Order {
        self.own.get(subject).copied().unwrap_or_default()
    }

    fn acknowledged(&self, subject: &str) -> Order {
        self.acknowledged.get(subject).copied().unwrap_or_default()
    }

    /// Whether the feed has said what changed with an event.
    fn was_told(&self, order: Order) -> bool {
        let untold = |(from, to): &(Order, Order)| (*from..*to).contains(&order);
        order < self.heard && (order < self.started || !self.untold.iter().any(untold))
    }
}

/// What is wrong with the database for all replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    Work,
    /// They fail.
    Fail,
    /// They work, in another database than the known one.
    OfAnother,
}

/// The model. Keys go by the digest of their plaintext, tenants by their id.
#[derive(Debug)]
pub(crate) struct Oracle {
    order: Order,
    keys: HashMap<String, History<Option<Key>>>,
    tenants: HashMap<String, History<bool>>,
    /// The last time that anybody wrote to a key or a tenant, even the same as before.
    touched: HashMap<String, Order>,
    views: Vec<View>,
    reads: Reads,
    /// Which replica reads from a copy, and when that caught up with the database.
    copy: Option<(usize, Vec<(Order, Duration)>)>,
}

impl Oracle {
    pub(crate) fn new(replicas: usize, at_a_copy: Option<usize>) -> Self {
        let views = (0..replicas).map(|_| View { works: true, ..View::default() }).collect();
        Self {
            order: 0,
            keys: HashMap::new(),
            tenants: HashMap::new(),
            touched: HashMap::new(),
            views,
            reads: Reads::Work,
            copy: at_a_copy.map(|replica| (replica, Vec::new())),
        }
    }

    /// The place of the next event.
    pub(crate) fn next(&mut self) -> Order {
        self.order += 1;
        self.order
    }

    pub(crate) fn trouble_begins(&mut self, reads: Reads) {
        self.reads = reads;
        self.views.iter_mut().for_each(|view| (view.works, view.is_back) = (false, false));
    }

    pub(crate) fn trouble_ends(&mut self) {
        self.reads = Reads::Work;
    }

    /// Whether the database is well for the reads of everybody.
    pub(crate) fn reads_work(&self) -> bool {
        self.reads == Reads::Work
    }

    /// Whether a replica reads what it may rely on.
    fn is_reachable(&self, replica: usize) -> bool {
        let view = &self.views[replica];
        self.reads_work() && view.works && !view.stands_still
    }

    /// The change log was cut off at its beginning, or is another one.
    pub(crate) fn log_breaks(&mut self) {
        self.views.iter_mut().for_each(|view| view.log_broken = true);
    }

    pub(crate) fn restarted(&mut self, replica: usize) {
        let order = self.next();
        let works = self.reads_work();
        self.views[replica] = View { started: order, heard: order, works, ..View::default() };
    }

    /// The copy shows what the database holds.
    pub(crate) fn caught_up(&mut self, now: Now) {
        let order = self.next();
        if let Some((_, times)) = &mut self.copy {
            times.push((order, now.monotonic));
        }
    }

    /// Up to which event, and until when, what a replica reads shows what has happened; `None` where it shows everything.
    fn shown(&self, replica: usize) -> Option<(Order, Duration)> {
        let (at_the_copy, times) = self.copy.as_ref()?;
        (*at_the_copy == replica).then(|| times.last().copied().unwrap_or_default())
    }

    /// When what a replica reads showed an event; `None` if it does not yet.
    fn shown_at(&self, replica: usize, order: Order, at: Duration) -> Option<Duration> {
        match &self.copy {
            Some((at_the_copy, times)) if *at_the_copy == replica => {
                let first = times.partition_point(|(caught_up, _)| *caught_up < order);
                times.get(first).map(|(_, time)| (*time).max(at))
            }
            _ => Some(at),
        }
    }

    /// A replica has read the feed to its end; the reading began as event `order`.
    pub(crate) fn heard(&mut self, replica: usize, order: Order, now: Now, log_is_empty: bool) {
        let order = self.shown(replica).map_or(order, |(shown, _)| shown.min(order));
        let touched = &self.touched;
        let view = &mut self.views[replica];
        // The first one finds what was read without anybody listening.
        if view.log_broken || view.first_heard.is_none() {
            view.untold.push((view.heard, order));
            view.verified = order;
        }
        view.first_heard.get_or_insert(order);
        for held in view.held.values_mut() {
            // The database has told of a change: from then on it is right.
            if touched.get(&held.subject).is_some_and(|at| *at > held.since && *at < order) {
                held.is_sure = false;
            }
        }
        (view.heard, view.heard_at) = (order, Some(now.monotonic));
        // After an empty log, nobody can tell whether what comes next is all there was.
        (view.log_broken, view.is_back, view.stands_still) = (log_is_empty, true, false);
    }

    /// A replica says that the copy from which it reads stands still.
    pub(crate) fn stands_still(&mut self, replica: usize) {
        self.views[replica].stands_still = true;
    }

    pub(crate) fn touched(&mut self, order: Order, subject: &str) {
        self.touched.insert(subject.to_owned(), order);
    }

    /// A replica has changed something, or tried to.
    pub(crate) fn changed_by(&mut self, replica: usize, order: Order, subject: &str, acknowledged: bool) {
        self.touched(order, subject);
        // What may not even have happened, a copy does not have to show.
        if acknowledged || self.shown(replica).is_none() {
            let view = &mut self.views[replica];
            view.own.insert(subject.to_owned(), order);
            view.last_own = order;
            if acknowledged {
                view.acknowledged.insert(subject.to_owned(), order);
            }
            let about_it = view.held.values_mut().filter(|held| acknowledged && held.subject == subject);
            about_it.for_each(|held| held.is_sure = false);
        }
    }

    /// A replica has imported a key, or tried to.
    pub(crate) fn imported_by(&mut self, replica: usize, order: Order, digest: &str, acknowledged: bool) {
        self.touched(order, digest);
        if acknowledged || self.shown(replica).is_none() {
            self.views[replica].imported.insert(digest.to_owned(), order);
            self.views[replica].last_own = order;
        }
    }

    /// A replica has issued a key.
    pub(crate) fn issued_by(&mut self, replica: usize, order: Order, digest: &str) {
        self.touched(order, digest);
        self.views[replica].last_own = order;
    }

    /// What is in the database after event `order`: all keys by digest, and whether each tenant is suspended.
    pub(crate) fn look(
        &mut self,
        order: Order,
        now: Now,
        keys: HashMap<String, Key>,
        tenants: &HashMap<String, bool>,
    ) {
        for (digest, history) in &mut self.keys {
            history.become_at(order, now.monotonic, &keys.get(digest).cloned());
        }
        for (digest, key) in keys {
            let history = self.keys.entry(digest).or_insert_with(|| History::new(None));
            history.become_at(order, now.monotonic, &Some(key));
        }
        for (tenant, suspended) in tenants {
            let history = self.tenants.entry(tenant.clone()).or_insert_with(|| History::new(*suspended));
            history.become_at(order, now.monotonic, suspended);
        }
    }

    /// The key of a digest, as it is in the database now.
    pub(crate) fn key(&self, digest: &str) -> Option<&Key> {
        self.keys.get(digest)?.last().as_ref()
    }

    /// All keys that are in the database now.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.values().filter_map(|history| history.last().as_ref())
    }

    pub(crate) fn is_suspended(&self, tenant: &str) -> bool {
        *self.tenants[tenant].last()
    }
}
