//! Knows what was true when, and what each replica has heard; says which answers that allows.

use std::{collections::HashMap, time::Duration};

use tenant_auth_svc::domain::{
    store::FailureKind,
    verdict::{Source, Verdict},
};

use super::history::{History, Key, Order};

/// `TENANT_AUTH_CACHE_FRESH`, its default, with the longest spread.
const FRESH: Duration = Duration::from_secs(6);
/// `TENANT_AUTH_CACHE_REFRESH`, its default.
const REFRESH: Duration = Duration::from_secs(60);
/// `TENANT_AUTH_CACHE_ABSENT`, its default.
const ABSENT: Duration = Duration::from_secs(5);
/// `TENANT_AUTH_CACHE_GRACE`: shorter than the default, so that it ends within the simulation.
pub(crate) const GRACE: Duration = Duration::from_secs(20 * 60);
/// For how long a feed that was heard vouches for what is in memory.
const VOUCHED: Duration = Duration::from_secs(1);

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
    /// Its last successful reading of the feed.
    heard: Order,
    heard_at: Option<Duration>,
    /// From one reading to another that told it to verify everything, instead of what had changed in between.
    untold: Vec<(Order, Order)>,
    /// The last one that made it verify everything.
    verified: Order,
    has_heard: bool,
    /// The log does not go on from where it has read, and it has not noticed yet.
    log_broken: bool,
    /// It has reached the database since the last outage.
    works: bool,
    /// Its own changes, done or attempted, by digest or tenant.
    own: HashMap<String, Order>,
    /// Keys that it has imported, or tried to: it no longer takes them for absent. A record of before it may still have.
    imported: HashMap<String, Order>,
    /// When it last read a key from the database.
    read: HashMap<String, (Order, Duration)>,
}

impl View {
    fn own(&self, subject: &str) -> Order {
        self.own.get(subject).copied().unwrap_or_default()
    }

    /// Whether the feed has said what changed with an event.
    fn was_told(&self, order: Order) -> bool {
        let untold = |(from, to): &(Order, Order)| (*from..*to).contains(&order);
        order < self.heard && (order < self.started || !self.untold.iter().any(untold))
    }
}

/// The model. Keys go by the digest of their plaintext, tenants by their id.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    order: Order,
    keys: HashMap<String, History<Option<Key>>>,
    tenants: HashMap<String, History<bool>>,
    /// The last time that anybody wrote to a key or a tenant, even the same as before.
    touched: HashMap<String, Order>,
    views: Vec<View>,
    outage: bool,
}

impl Oracle {
    pub(crate) fn new(replicas: usize) -> Self {
        let views = (0..replicas).map(|_| View { works: true, ..View::default() }).collect();
        Self { views, ..Self::default() }
    }

    /// The place of the next event.
    pub(crate) fn next(&mut self) -> Order {
        self.order += 1;
        self.order
    }

    pub(crate) fn is_outage(&self) -> bool {
        self.outage
    }

    pub(crate) fn outage_begins(&mut self) {
        self.outage = true;
        self.views.iter_mut().for_each(|view| view.works = false);
    }

    pub(crate) fn outage_ends(&mut self) {
        self.outage = false;
    }

    /// The change log was cut off, at its beginning or at its end.
    pub(crate) fn log_breaks(&mut self) {
        self.views.iter_mut().for_each(|view| view.log_broken = true);
    }

    pub(crate) fn restarted(&mut self, replica: usize) {
        let order = self.next();
        let works = !self.outage;
        self.views[replica] = View { started: order, heard: order, works, ..View::default() };
    }

    /// A replica has read the feed to its end; the reading began as event `order`.
    pub(crate) fn heard(&mut self, replica: usize, order: Order, now: Now, log_is_empty: bool) {
        let view = &mut self.views[replica];
        // The first one finds what was read without anybody listening.
        if view.log_broken || !view.has_heard {
            view.untold.push((view.heard, order));
            view.verified = order;
        }
        (view.heard, view.heard_at) = (order, Some(now.monotonic));
        // After an empty log, nobody can tell whether what comes next is all there was.
        (view.log_broken, view.has_heard, view.works) = (log_is_empty, true, true);
    }

    pub(crate) fn touched(&mut self, order: Order, subject: &str) {
        self.touched.insert(subject.to_owned(), order);
    }

    /// A replica has changed something, or tried to.
    pub(crate) fn changed_by(&mut self, replica: usize, order: Order, subject: &str) {
        self.touched(order, subject);
        self.views[replica].own.insert(subject.to_owned(), order);
    }

    /// A replica has imported a key, or tried to.
    pub(crate) fn imported_by(&mut self, replica: usize, order: Order, digest: &str) {
        self.touched(order, digest);
        self.views[replica].imported.insert(digest.to_owned(), order);
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

    pub(crate) fn is_suspended(&self, tenant: &str) -> bool {
        *self.tenants[tenant].last()
    }

    /// What everybody has to say once all is well and heard of.
    pub(crate) fn truth(&self, digest: &str, reads: bool, now: Now) -> Verdict {
        self.key(digest)
            .map_or(Verdict::Unknown, |key| key.verdict(self.is_suspended(&key.tenant), reads, now.wall))
    }

    /// Judges an answer to a question asked just now; the message says why it is not allowed.
    pub(crate) fn judge(
        &mut self,
        replica: usize,
        digest: &str,
        reads: bool,
        now: Now,
        answer: Result<Told, FailureKind>,
    ) -> Result<(), String> {
        let order = self.next();
        let view = &self.views[replica];
        let reachable = !self.outage && view.works;
        let told = match answer {
            Err(kind) if reachable => {
                return Err(format!("no answer ({kind:?}) from a database that is well"));
            }
            Err(kind) if self.has_in_memory(replica, digest, now) => {
                return Err(format!("no answer ({kind:?}) about a key that it knows"));
            }
            Err(_) => return Ok(()),
            Ok(told) => told,
        };
        let vouched = view.heard_at.is_some_and(|at| now.monotonic <= at + VOUCHED);
        let honest = match told.source {
            Source::Database | Source::Fresh => told.age < FRESH,
            Source::Refreshing => told.age < REFRESH && vouched,
            Source::Stale => told.age < GRACE && !reachable,
            Source::Negative => told.age < ABSENT && told.verdict == Verdict::Unknown,
            Source::None => false,
        };
        if !honest {
            return Err("the answer's source and age are not possible".to_owned());
        }
        let allowed = match told.verdict {
            Verdict::Unknown => self.may_be_unknown(view, digest, now),
            verdict => self.may_be(view, digest, reads, now, verdict, reachable),
        };
        if !allowed {
            return Err("nothing that this replica may still believe gives this verdict".to_owned());
        }
        if told.source == Source::Database && told.verdict != Verdict::Unknown && !view.log_broken {
            self.views[replica].read.insert(digest.to_owned(), (order, now.monotonic));
        }
        Ok(())
    }

    fn may_be_unknown(&self, view: &View, digest: &str, now: Now) -> bool {
        let Some(history) = self.keys.get(digest) else { return true };
        // A key that came and went between two readings may stay an absence for its few seconds: either is a denial.
        let withdrawn = history.last().as_ref().is_some_and(|key| key.revoked);
        let heard = if withdrawn { view.started } else { view.heard };
        let imported = view.imported.get(digest).copied().unwrap_or_default();
        let told = |order| order <= heard.max(view.own(digest)).max(imported);
        history.believable(told, now.monotonic, ABSENT).any(Option::is_none)
    }

    /// Whether a verdict other than UNKNOWN follows from a state of the key, and one of its tenant, that the replica may
    /// have read and not heard to be over.
    fn may_be(
        &self,
        view: &View,
        digest: &str,
        reads: bool,
        now: Now,
        verdict: Verdict,
        reachable: bool,
    ) -> bool {
        let Some(history) = self.keys.get(digest) else { return false };
        let admits = verdict == Verdict::Valid;
        // What is known to have ended may hide that more has changed, for as long as nobody can ask.
        let any_denial = !admits && (!reachable || view.log_broken);
        let told = |subject: &str| {
            let own = view.own(subject);
            move |order| match reachable {
                _ if any_denial => order <= view.started,
                true => order <= view.heard.max(own),
                false => order <= own || view.was_told(order),
            }
        };
        let age = if reachable && !any_denial { FRESH } else { GRACE };
        history.believable(told(digest), now.monotonic, age).flatten().any(|key| {
            let tenant = &self.tenants[&key.tenant];
            let mut believable = tenant.believable(told(&key.tenant), now.monotonic, age);
            believable.any(|suspended| key.verdict(*suspended, reads, now.wall) == verdict)
        })
    }

    /// Whether a replica has read a key within the grace, and heard nothing since that could have made it forget.
    fn has_in_memory(&self, replica: usize, digest: &str, now: Now) -> bool {
        let view = &self.views[replica];
        let Some((read, at)) = view.read.get(digest) else { return false };
        let Some(key) = self.key(digest) else { return false };
        let touched = |subject: &str| self.touched.get(subject).copied().unwrap_or_default();
        let changed = touched(digest).max(touched(&key.tenant)).max(self.keys[digest].since());
        now.monotonic < *at + GRACE && *read > changed && *read > view.verified
    }
}
