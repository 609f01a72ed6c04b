//! The near-cache: answers cached in this process, so that most validations need no request.

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

#[cfg(feature = "mcp")]
pub(crate) use self::entry::is_valid_scope;
pub use self::settings::NearCache;
use self::{
    entry::CacheEntry, fence::Fence, in_flight::InFlightRequests, liveness::Liveness, tag::Tagger,
    watch::WatchTask,
};
pub(crate) use self::{
    entry::{Requirements, apply_requirements},
    fence::ChangeSubject,
    settings::CacheLimits,
    tag::{Tag, TagHasher},
};
use crate::{Clock, Error, Validation, clock::Moment, guard::GuardRegistry, transport::Transport};

/// Cached answers of the service. It contains no plaintext key.
pub(crate) struct AnswerCache {
    clock: Arc<dyn Clock>,
    /// Maximum lag of the clock.
    lag: Duration,
    limits: CacheLimits,
    tagger: Tagger,
    /// This map waits for no writer of another shard, allocates nothing on a hit, and keeps unknown keys from
    /// evicting entries in use, at a tenth of the time of moka. It returns copies: an entry fits in one
    /// processor cache line and holds one reference count, which the caller gets.
    entries: Cache<Tag, CacheEntry, UnitWeighter, TagHasher>,
    liveness: Liveness,
    /// Held whenever entries are added or dropped, so that no answer older than a change is stored after that
    /// change.
    fence: Mutex<Fence>,
    /// Number of invalidations so far.
    change_count: AtomicU64,
    in_flight: InFlightRequests,
    guards: Arc<GuardRegistry>,
}

/// A client's near-cache and the task that invalidates it. Clones share both.
#[derive(Clone, Debug)]
pub(crate) struct CacheHandle {
    cache: Arc<AnswerCache>,
    watch_task: Option<Arc<WatchTask>>,
}

impl CacheHandle {
    /// Starts the invalidation stream if there is a transport.
    pub(crate) fn new(cache: Arc<AnswerCache>, transport: Option<Transport>) -> Self {
        let watch = |transport| Arc::new(WatchTask::spawn(Arc::clone(&cache), transport));
        let watch_task = transport.map(watch);
        Self { cache, watch_task }
    }

    pub(crate) fn cache(&self) -> &Arc<AnswerCache> {
        &self.cache
    }

    /// Stops the invalidation stream.
    pub(crate) fn close(&self) {
        if let Some(task) = &self.watch_task {
            task.stop();
            self.cache.guards.set_live(false);
        }
    }
}

/// A change in progress; see [`AnswerCache::invalidate_on_drop`].
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

/// The time and the epoch at which a request was sent.
#[derive(Clone, Copy, Debug)]
struct RequestStart {
    started_at: Moment,
    epoch: u64,
}

impl AnswerCache {
    pub(crate) fn new(
        limits: CacheLimits,
        clock: Arc<dyn Clock>,
        guards: Arc<GuardRegistry>,
    ) -> Result<Self, Error> {
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
            guards,
            clock,
        })
    }

    pub(crate) fn key_tag(&self, key: &str) -> Tag {
        self.tagger.key(key)
    }

    pub(crate) fn session_tag(&self, session_id: &str, key: Option<&str>) -> Tag {
        self.tagger.session(session_id, key)
    }

    /// Returns the cached answer if it may be used. Allocates nothing if the key holds all scopes.
    #[inline]
    pub(crate) fn get(&self, tag: Tag, required: Requirements<'_>) -> Option<Validation> {
        let entry = self.entries.get(&tag)?;
        let now = self.now().after(self.lag);
        if !entry.is_usable(now, &self.liveness) {
            return None;
        }
        entry.into_validation(required, now)
    }

    /// Sends a request, or waits for the one in flight, and caches the answer. The request must be one
    /// without scopes.
    ///
    /// # Errors
    /// The errors of the request, for all that wait for it. Errors are not cached.
    pub(crate) async fn get_or_request<F>(
        self: &Arc<Self>,
        tag: Tag,
        request: impl Fn() -> F,
    ) -> Result<Validation, Error>
    where
        F: Future<Output = Result<Validation, Error>> + Send + 'static,
    {
        loop {
            let change_count = self.change_count.load(Ordering::Acquire);
            let (outcome, is_shared) = self.in_flight.join(tag, change_count, || {
                let (cache, start, request) = (Arc::clone(self), self.start_request(), request());
                async move {
                    let outcome = request.await;
                    if let Ok(validation) = &outcome {
                        cache.store(tag, start, validation);
                    }
                    cache.in_flight.finish(tag, change_count);
                    outcome
                }
            });
            match outcome.await {
                // The first caller may have had a shorter timeout.
                Err(Error::DeadlineExceeded) if is_shared => {}
                outcome => return outcome,
            }
        }
    }

    fn start_request(&self) -> RequestStart {
        RequestStart { epoch: self.fence().epoch(), started_at: self.now() }
    }

    fn store(&self, tag: Tag, start: RequestStart, validation: &Validation) {
        let revision = validation.provenance.revision;
        let fence = self.fence();
        if start.epoch != fence.epoch() || fence.is_outdated(&validation.subject, revision) {
            return;
        }
        let is_covered = fence.is_covered_by_stream(revision);
        if let Some(entry) = CacheEntry::new(validation, start.started_at, is_covered, &self.limits) {
            self.entries.insert(tag, entry);
        }
    }

    /// Records a heartbeat of the stream, after its event was applied.
    fn record_heartbeat(&self, revision: i64) {
        let mut fence = self.fence();
        let is_restart = self.liveness.record_heartbeat(self.now(), revision);
        if is_restart {
            fence.start_stream(revision);
        }
        drop(fence);
        self.guards.set_live(true);
        if is_restart {
            self.guards.wake_all();
        }
    }

    /// Drops entries about `subject` that are older than the change.
    fn invalidate(&self, subject: ChangeSubject, revision: i64) {
        let mut fence = self.fence();
        self.entries.retain(|_, entry| entry.revision() >= revision || !subject.matches(entry.subject()));
        fence.mark(subject.clone(), revision);
        self.change_count.fetch_add(1, Ordering::AcqRel);
        drop(fence);
        self.guards.name(&subject);
    }

    /// Drops all entries, and ignores the answers of requests in flight.
    fn reset(&self, revision: i64) {
        let mut fence = self.fence();
        self.liveness.mark_broken();
        self.entries.clear();
        fence.reset(revision);
        self.change_count.fetch_add(1, Ordering::AcqRel);
        // The heartbeat that follows starts the stream anew, and wakes the guards.
    }

    /// Returns whether an answer is older than a change of its subject that the stream has announced.
    pub(crate) fn is_outdated(&self, validation: &Validation) -> bool {
        self.fence().is_outdated(&validation.subject, validation.provenance.revision)
    }

    /// Returns whether the stream announces every change that an answer may lack.
    pub(crate) fn is_covered(&self, validation: &Validation) -> bool {
        self.fence().is_covered_by_stream(validation.provenance.revision)
    }

    /// Returns whether the stream has announced a change of a key or its tenant after a revision.
    pub(crate) fn has_changed_since(&self, key_id: &str, tenant_id: &str, revision: i64) -> bool {
        let fence = self.fence();
        let subjects = [ChangeSubject::Key(key_id.to_owned()), ChangeSubject::Tenant(tenant_id.to_owned())];
        subjects.iter().any(|subject| fence.has_changed_since(subject, revision))
    }

    /// Returns a guard for a change by this client. On drop it invalidates the subject, whether the change
    /// succeeded, failed (it may have been applied) or was cancelled.
    pub(crate) fn invalidate_on_drop(self: &Arc<Self>, subject: ChangeSubject) -> InvalidationGuard {
        InvalidationGuard { cache: Arc::clone(self), subject: Some(subject) }
    }

    /// Returns a guard for a change whose subject is unknown. On drop it clears the cache.
    pub(crate) fn clear_on_drop(self: Arc<Self>) -> InvalidationGuard {
        InvalidationGuard { cache: self, subject: None }
    }

    fn apply_local_change(&self, subject: Option<&ChangeSubject>) {
        let mut fence = self.fence();
        self.entries.retain(|_, entry| subject.is_some_and(|subject| !subject.matches(entry.subject())));
        fence.advance_epoch();
        self.change_count.fetch_add(1, Ordering::AcqRel);
        drop(fence);
        if let Some(subject) = subject {
            self.guards.name(subject);
        }
    }

    /// Returns whether the stream is live, and the last revision that it has announced.
    pub(crate) fn watch_state(&self) -> WatchState {
        WatchState {
            live: self.liveness.is_unbroken(self.now().after(self.lag)),
            revision: self.liveness.revision(),
        }
    }

    /// Returns a time that is not before the present one: with the maximum lag of the clock.
    pub(crate) fn latest_now(&self) -> Moment {
        self.now().after(self.lag)
    }

    /// Returns the time of the clock, which may lag a little.
    pub(crate) fn now(&self) -> Moment {
        self.clock.now().into()
    }

    fn fence(&self) -> MutexGuard<'_, Fence> {
        self.fence.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for AnswerCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerCache").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// The state of the invalidation stream; see [`Client::watch_state`](crate::Client::watch_state).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchState {
    /// Whether the stream is live. While it is, answers may be used for longer than without it.
    pub live: bool,
    /// The last revision that the stream has announced; 0 before the first event.
    pub revision: i64,
}
