//! Answers kept in this process, so that most questions cost nothing.

mod entry;
mod fence;
mod in_flight;
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
    entry::CacheEntry,
    fence::Fence,
    in_flight::InFlightRequests,
    liveness::Liveness,
    tag::{TagHasher, Tagger},
    watch::WatchTask,
};
pub(crate) use self::{entry::apply_required_scopes, fence::ChangeSubject, settings::CacheLimits, tag::Tag};
use crate::{Clock, Error, Validation, clock::Moment, transport::Transport};

/// What the service answered, for as long as it may be used. No plaintext key is in it.
pub(crate) struct AnswerCache {
    clock: Arc<dyn Clock>,
    /// How far the clock may be behind.
    lag: Duration,
    limits: CacheLimits,
    tagger: Tagger,
    /// A map that waits for no writer elsewhere, allocates nothing on a hit, and does not let strangers push out what is in
    /// use, at a tenth of what moka takes. What it hands out is a copy: as large as a line of a processor's cache, and one reference
    /// counted, which the caller gets.
    entries: Cache<Tag, CacheEntry, UnitWeighter, TagHasher>,
    liveness: Liveness,
    /// Held whenever entries are added or dropped, so that no answer slips in behind the news about it.
    fence: Mutex<Fence>,
    /// How much was told so far.
    change_count: AtomicU64,
    in_flight: InFlightRequests,
}

/// A client's memory, and the task that keeps it true. Clones share both.
#[derive(Clone, Debug)]
pub(crate) struct CacheHandle {
    cache: Arc<AnswerCache>,
    watch_task: Option<Arc<WatchTask>>,
}

impl CacheHandle {
    /// With a connection to listen on, invalidations are listened to.
    pub(crate) fn new(near: Arc<AnswerCache>, transport: Option<Transport>) -> Self {
        let watch = |transport| Arc::new(WatchTask::spawn(Arc::clone(&near), transport));
        let watching = transport.map(watch);
        Self { cache: near, watch_task: watching }
    }

    pub(crate) fn cache(&self) -> &Arc<AnswerCache> {
        &self.cache
    }

    /// Listens no more.
    pub(crate) fn close(&self) {
        if let Some(watching) = &self.watch_task {
            watching.stop();
        }
    }
}

/// A change under way; see [`AnswerCache::invalidate_on_drop`].
#[derive(Debug)]
pub(crate) struct InvalidationGuard {
    cache: Arc<AnswerCache>,
    subject: Option<ChangeSubject>,
}

impl Drop for InvalidationGuard {
    fn drop(&mut self) {
        self.cache.apply_local_change(self.subject.as_ref());
    }
}

/// When a question was sent.
#[derive(Clone, Copy, Debug)]
struct RequestStart {
    started_at: Moment,
    epoch: u64,
}

impl AnswerCache {
    pub(crate) fn new(limits: CacheLimits, clock: Arc<dyn Clock>) -> Result<Self, Error> {
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
            change_count: AtomicU64::new(0),
            in_flight: InFlightRequests::default(),
            clock,
        })
    }

    pub(crate) fn key_tag(&self, key: &str) -> Tag {
        self.tagger.key(key)
    }

    pub(crate) fn session_tag(&self, session_id: &str, key: Option<&str>) -> Tag {
        self.tagger.session(session_id, key)
    }

    /// The answer in memory, if there is one that may be used. Allocates nothing when all scopes are held.
    #[inline]
    pub(crate) fn get(&self, tag: Tag, required_scopes: &[&str]) -> Option<Validation> {
        let entry = self.entries.get(&tag)?;
        let now = self.now().after(self.lag);
        if !entry.is_usable(now, &self.liveness) {
            return None;
        }
        entry.into_validation(required_scopes, now)
    }

    /// Asks, or waits with those who asked already, and keeps the answer. The question must be one without scopes.
    ///
    /// # Errors
    /// Those of the question, for all who wait. They are not kept.
    pub(crate) async fn get_or_request<F>(
        self: &Arc<Self>,
        tag: Tag,
        ask: impl Fn() -> F,
    ) -> Result<Validation, Error>
    where
        F: Future<Output = Result<Validation, Error>> + Send + 'static,
    {
        loop {
            let news = self.change_count.load(Ordering::Acquire);
            let (outcome, is_anothers) = self.in_flight.join(tag, news, || {
                let (near, began, question) = (Arc::clone(self), self.start_request(), ask());
                async move {
                    let outcome = question.await;
                    if let Ok(validation) = &outcome {
                        near.store(tag, began, validation);
                    }
                    near.in_flight.finish(tag, news);
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

    fn start_request(&self) -> RequestStart {
        RequestStart { epoch: self.fence().epoch(), started_at: self.now() }
    }

    fn store(&self, tag: Tag, began: RequestStart, validation: &Validation) {
        let revision = validation.provenance.revision;
        let fence = self.fence();
        if began.epoch != fence.epoch() || fence.is_outdated(&validation.subject, revision) {
            return;
        }
        let follows_up = fence.is_covered_by_stream(revision);
        if let Some(entry) = CacheEntry::new(validation, began.started_at, follows_up, &self.limits) {
            self.entries.insert(tag, entry);
        }
    }

    /// Notes a sign of life of the stream, after what it told was done.
    fn record_heartbeat(&self, revision: i64) {
        let mut fence = self.fence();
        if self.liveness.record_heartbeat(self.now(), revision) {
            fence.start_stream(revision);
        }
    }

    /// Forgets what is older than the news about it.
    fn invalidate(&self, about: ChangeSubject, revision: i64) {
        let mut fence = self.fence();
        self.entries.retain(|_, entry| entry.revision() >= revision || !about.matches(entry.subject()));
        fence.mark(about, revision);
        self.change_count.fetch_add(1, Ordering::AcqRel);
    }

    /// Forgets everything, and what is under way.
    fn reset(&self, revision: i64) {
        let mut fence = self.fence();
        self.liveness.mark_broken();
        self.entries.clear();
        fence.reset(revision);
        self.change_count.fetch_add(1, Ordering::AcqRel);
    }

    /// For a change of this client's own: what is known of it is forgotten when this goes, whether the change was made,
    /// failed (it may have been made), or was given up.
    pub(crate) fn invalidate_on_drop(self: &Arc<Self>, about: ChangeSubject) -> InvalidationGuard {
        InvalidationGuard { cache: Arc::clone(self), subject: Some(about) }
    }

    /// For a change that nobody knows what it is about: everything is forgotten when this goes.
    pub(crate) fn clear_on_drop(self: Arc<Self>) -> InvalidationGuard {
        InvalidationGuard { cache: self, subject: None }
    }

    fn apply_local_change(&self, about: Option<&ChangeSubject>) {
        let mut fence = self.fence();
        self.entries.retain(|_, entry| about.is_some_and(|about| !about.matches(entry.subject())));
        fence.advance_epoch();
        self.change_count.fetch_add(1, Ordering::AcqRel);
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

impl fmt::Debug for AnswerCache {
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
