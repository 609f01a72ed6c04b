//! Answers kept in this process, so that most questions cost nothing.

mod entry;
mod fence;
mod flight;
mod liveness;
mod settings;
mod tag;
mod watch;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quick_cache::{UnitWeighter, sync::Cache};

pub use self::settings::NearCache;
use self::{
    entry::Entry,
    fence::Fence,
    flight::Flights,
    liveness::Liveness,
    tag::{TagHasher, Tagger},
    watch::Watching,
};
pub(crate) use self::{entry::requiring, fence::About, settings::Limits, tag::Tag};
use crate::{Clock, Error, Validation, clock::Moment, transport::Transport};

/// What the service answered, for as long as it may be used. No plaintext key is in it.
pub(crate) struct Near {
    clock: Arc<dyn Clock>,
    /// How far the clock may be behind.
    lag: Duration,
    limits: Limits,
    tagger: Tagger,
    /// A map that waits for no writer elsewhere, allocates nothing on a hit, and does not let strangers push out what is in
    /// use, at a tenth of what moka takes. What it hands out is a copy: as large as a line of a processor's cache, and one reference
    /// counted, which the caller gets.
    entries: Cache<Tag, Entry, UnitWeighter, TagHasher>,
    liveness: Liveness,
    /// Held whenever entries are added or dropped, so that no answer slips in behind the news about it.
    fence: Mutex<Fence>,
    /// How much was told so far.
    news: AtomicU64,
    flights: Flights,
}

/// A client's memory, and the task that keeps it true. Clones share both.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    near: Arc<Near>,
    watching: Option<Arc<Watching>>,
}

impl Memory {
    /// With a connection to listen on, invalidations are listened to.
    pub(crate) fn new(near: Arc<Near>, transport: Option<Transport>) -> Self {
        let watch = |transport| Arc::new(Watching::spawn(Arc::clone(&near), transport));
        let watching = transport.map(watch);
        Self { near, watching }
    }

    pub(crate) fn near(&self) -> &Arc<Near> {
        &self.near
    }

    /// Listens no more.
    pub(crate) fn close(&self) {
        if let Some(watching) = &self.watching {
            watching.stop();
        }
    }
}

/// A change under way; see [`Near::changing`].
#[derive(Debug)]
pub(crate) struct Changing {
    near: Arc<Near>,
    about: Option<About>,
}

impl Drop for Changing {
    fn drop(&mut self) {
        self.near.changed(self.about.as_ref());
    }
}

/// When a question was sent.
#[derive(Clone, Copy, Debug)]
struct Began {
    at: Moment,
    epoch: u64,
}

impl Near {
    pub(crate) fn new(limits: Limits, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        Ok(Self {
            lag: clock.lag(),
            limits,
            tagger: Tagger::new()?,
            entries: Cache::with(
                limits.entries,
                limits.entries as u64,
                UnitWeighter,
                TagHasher::default(),
                Default::default(),
            ),
            liveness: Liveness::new(),
            fence: Mutex::default(),
            news: AtomicU64::new(0),
            flights: Flights::default(),
            clock,
        })
    }

    pub(crate) fn key(&self, key: &str) -> Tag {
        self.tagger.key(key)
    }

    pub(crate) fn session(&self, session_id: &str, key: Option<&str>) -> Tag {
        self.tagger.session(session_id, key)
    }

    /// The answer in memory, if there is one that may be used. Allocates nothing when all scopes are held.
    #[inline]
    pub(crate) fn get(&self, tag: Tag, required_scopes: &[&str]) -> Option<Validation> {
        let entry = self.entries.get(&tag)?;
        let now = self.now().after(self.lag);
        if !entry.is_good(now, &self.liveness) {
            return None;
        }
        entry.into_answer(required_scopes, now)
    }

    /// Asks, or waits with those who asked already, and keeps the answer. The question must be one without scopes.
    ///
    /// # Errors
    /// Those of the question, for all who wait. They are not kept.
    pub(crate) async fn ask<F>(self: &Arc<Self>, tag: Tag, ask: impl Fn() -> F) -> Result<Validation, Error>
    where
        F: Future<Output = Result<Validation, Error>> + Send + 'static,
    {
        loop {
            let news = self.news.load(Ordering::Acquire);
            let (outcome, is_anothers) = self.flights.join(tag, news, || {
                let (near, began, question) = (Arc::clone(self), self.begin(), ask());
                async move {
                    let outcome = question.await;
                    if let Ok(validation) = &outcome {
                        near.settle(tag, began, validation);
                    }
                    near.flights.land(tag, news);
                    outcome
                }
            });
            match outcome.await {
                // Whoever asked first may have had less time.
                Err(Error::DeadlineExceeded) if is_anothers => {}
                outcome => return outcome,
            }
        }
    }

    fn begin(&self) -> Began {
        Began { epoch: self.fence().epoch(), at: self.now() }
    }

    fn settle(&self, tag: Tag, began: Began, validation: &Validation) {
        let revision = validation.provenance.revision;
        let fence = self.fence();
        if began.epoch != fence.epoch() || fence.overtakes(&validation.subject, revision) {
            return;
        }
        let follows_up = fence.follows_up(revision);
        if let Some(entry) = Entry::new(validation, began.at, follows_up, &self.limits) {
            self.entries.insert(tag, entry);
        }
    }

    /// Notes a sign of life of the stream, after what it told was done.
    fn heard(&self, revision: i64) {
        let mut fence = self.fence();
        if self.liveness.heard(self.now(), revision) {
            fence.begin(revision);
        }
    }

    /// Forgets what is older than the news about it.
    fn invalidate(&self, about: About, revision: i64) {
        let mut fence = self.fence();
        self.entries.retain(|_, entry| entry.revision() >= revision || !about.concerns(entry.subject()));
        fence.mark(about, revision);
        self.news.fetch_add(1, Ordering::AcqRel);
    }

    /// Forgets everything, and what is under way.
    fn start_over(&self, revision: i64) {
        let mut fence = self.fence();
        self.liveness.broken();
        self.entries.clear();
        fence.start_over(revision);
        self.news.fetch_add(1, Ordering::AcqRel);
    }

    /// For a change of this client's own: what is known of it is forgotten when this goes, whether the change was made,
    /// failed (it may have been made), or was given up.
    pub(crate) fn changing(self: &Arc<Self>, about: About) -> Changing {
        Changing { near: Arc::clone(self), about: Some(about) }
    }

    /// For a change that nobody knows what it is about: everything is forgotten when this goes.
    pub(crate) fn forgetting(self: Arc<Self>) -> Changing {
        Changing { near: self, about: None }
    }

    fn changed(&self, about: Option<&About>) {
        let mut fence = self.fence();
        self.entries.retain(|_, entry| about.is_some_and(|about| !about.concerns(entry.subject())));
        fence.turn();
        self.news.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether the stream is relied on, and up to which revision it told.
    pub(crate) fn watch_state(&self) -> WatchState {
        WatchState {
            live: self.liveness.is_unbroken(self.now().after(self.lag)),
            revision: self.liveness.revision(),
        }
    }

    /// Now or a little earlier.
    fn now(&self) -> Moment {
        self.clock.now().into()
    }

    fn fence(&self) -> MutexGuard<'_, Fence> {
        self.fence.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Near {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Near").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// What a client knows from the invalidation stream; see [`Client::watch_state`](crate::Client::watch_state).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchState {
    /// Whether it is heard: then answers are used for longer than the service allows without it.
    pub live: bool,
    /// The last revision it told of; 0 before the first.
    pub revision: i64,
}
