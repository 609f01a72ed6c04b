//! What the layers know about a request and the handlers want to know.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    denials::{DenialLog, Subject},
    error::ApiError,
    permits::Place,
    tally::Tally,
};
use crate::domain::{
    audit::Actor,
    guesses::{Asker, OnBehalf},
    session::SessionVerdict,
    store::FailureKind,
    verdict::Source,
};

/// Names a request in logs, in the audit log, and to the caller (`x-request-id`).
#[derive(Clone, Debug)]
pub struct RequestId(pub Arc<str>);

/// Who calls: the caller's name, or where it calls from, marked as such, if it is not known.
#[derive(Clone, Debug)]
pub struct Caller(pub Arc<str>);

/// The name that the callers file gives who calls. Absent where nobody has one.
#[derive(Clone, Debug)]
pub struct CallerName(pub Arc<str>);

/// When the caller stops waiting.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(pub Instant);

impl Deadline {
    /// Nobody waits any longer: there is no point in beginning.
    ///
    /// # Errors
    /// [`ApiError::Expired`] when that is so.
    pub fn ahead(self) -> Result<(), ApiError> {
        if self.0 > Instant::now() { Ok(()) } else { Err(ApiError::Expired) }
    }
}

/// How long a handler may take for each thing it is asked: a limit of its own, and the caller's deadline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    limit: Duration,
    caller: Option<Deadline>,
}

impl Budget {
    /// When to give up on what begins now: the caller's deadline, or after the limit, whichever comes first.
    ///
    /// # Errors
    /// [`ApiError::Expired`] when the caller's deadline has passed.
    pub(super) fn deadline(self) -> Result<Instant, ApiError> {
        let own = Instant::now() + self.limit;
        let Some(caller) = self.caller else { return Ok(own) };
        caller.ahead().map(|()| own.min(caller.0))
    }
}

/// What an RPC came to, filled in by its handler and read by the log line at its end.
#[derive(Clone, Debug, Default)]
pub struct RpcRecord(Arc<Record>);

#[derive(Debug, Default)]
struct Record {
    first: OnceLock<(SessionVerdict, Source)>,
    failure: OnceLock<FailureKind>,
    decided: AtomicU64,
    undecided: AtomicU64,
    tally: Tally,
    /// Absent where nobody asks for lines of denials.
    denials: OnceLock<DenialLog>,
    is_too_large: AtomicBool,
    is_of_stranger: bool,
}

impl RpcRecord {
    /// Of an RPC by somebody who is not known, where callers are known.
    #[must_use]
    pub fn of_stranger() -> Self {
        Self(Arc::new(Record { is_of_stranger: true, ..Record::default() }))
    }

    /// Whether nobody knows who asked: no such RPC is served, whatever it is refused for.
    #[must_use]
    pub fn is_of_stranger(&self) -> bool {
        self.0.is_of_stranger
    }

    /// Has each denial leave a line in the log.
    pub fn log_denials(&self, log: DenialLog) {
        // Set once: by the layer that makes the line of the RPC.
        let _ = self.0.denials.set(log);
    }

    /// A decision was made about a subject. The first one stands for the RPC, further ones are counted.
    pub fn decided(&self, verdict: impl Into<SessionVerdict>, source: Source, subject: Subject<'_>) {
        let verdict = verdict.into();
        if let (Some(log), true) = (self.0.denials.get(), verdict != SessionVerdict::VALID) {
            log.denied(verdict, subject);
        }
        self.0.tally.decided(verdict, source);
        let _ = self.0.first.set((verdict, source));
        self.0.decided.fetch_add(1, Ordering::Relaxed);
    }

    /// The database did not do what the RPC asked of it.
    pub fn failed(&self, kind: FailureKind) {
        let _ = self.0.failure.set(kind);
    }

    /// Nothing could be said about a key or a session, since the database gave no answer.
    pub fn undecidable(&self, kind: FailureKind) {
        self.failed(kind);
        if let Some(log) = self.0.denials.get() {
            log.undecided(kind.as_str());
        }
        self.0.tally.undecidable(kind);
        self.0.undecided.fetch_add(1, Ordering::Relaxed);
    }

    /// A key was not looked at: there was no place for it, or no time.
    pub fn not_tried(&self) {
        if let Some(log) = self.0.denials.get() {
            log.undecided("not_tried");
        }
        self.0.tally.not_tried();
        self.0.undecided.fetch_add(1, Ordering::Relaxed);
    }

    /// A message of the caller's is longer than it may be.
    pub fn too_large(&self) {
        self.0.is_too_large.store(true, Ordering::Relaxed);
    }

    /// Whether a message was longer than it may be: RESOURCE_EXHAUSTED for that is no sign that anything here is exhausted.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        self.0.is_too_large.load(Ordering::Relaxed)
    }

    /// What was decided about each of its keys, not counted so far.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.0.tally
    }

    /// The verdict, if the RPC was about exactly one key; how it was reached.
    #[must_use]
    pub fn verdict(&self) -> Option<(SessionVerdict, Source)> {
        self.0.first.get().copied().filter(|_| self.decisions() == 1)
    }

    /// How many keys were decided about.
    #[must_use]
    pub fn decisions(&self) -> u64 {
        self.0.decided.load(Ordering::Relaxed)
    }

    /// How many keys could not be decided about.
    #[must_use]
    pub fn undecided(&self) -> u64 {
        self.0.undecided.load(Ordering::Relaxed)
    }

    /// Why the database gave no answer, the first time.
    #[must_use]
    pub fn failure(&self) -> Option<FailureKind> {
        self.0.failure.get().copied()
    }
}

/// Reads a request's context. What a layer has not set (in a test without layers) has a plain stand-in.
pub(super) trait Context {
    /// How long to take for each thing that is asked, at most `limit`.
    fn budget(&self, limit: Duration) -> Budget;

    /// When to give up: the caller's deadline, or after `limit`, whichever comes first.
    ///
    /// # Errors
    /// [`ApiError::Expired`] when the caller's deadline has passed.
    fn deadline(&self, limit: Duration) -> Result<Instant, ApiError> {
        self.budget(limit).deadline()
    }

    /// On whose behalf to ask.
    fn asker(&self) -> Asker;

    /// On whose behalf to ask, and until when: see [`deadline`](Self::deadline).
    ///
    /// # Errors
    /// [`ApiError::Expired`] when the caller's deadline has passed.
    fn on_behalf(&self, limit: Duration) -> Result<OnBehalf, ApiError> {
        Ok(OnBehalf { asker: self.asker(), deadline: self.deadline(limit)? })
    }

    /// Who calls, by the name in the callers file; `None` where callers have none.
    fn caller_name(&self) -> Option<Arc<str>>;

    /// Gives the request's own place back; what comes later on its stream can take others like it. `None` without layers.
    fn leave_place(&self) -> Option<Arc<Place>>;

    /// Who asks for a change.
    fn actor(&self) -> Actor;

    /// Where to note what the RPC comes to.
    fn record(&self) -> RpcRecord;
}

impl<T> Context for tonic::Request<T> {
    fn budget(&self, limit: Duration) -> Budget {
        Budget { limit, caller: self.extensions().get::<Deadline>().copied() }
    }

    fn asker(&self) -> Asker {
        let caller = self.extensions().get::<Caller>();
        caller.map_or(Asker::OURSELVES, |caller| Asker::caller(Arc::clone(&caller.0)))
    }

    fn caller_name(&self) -> Option<Arc<str>> {
        self.extensions().get::<CallerName>().map(|name| Arc::clone(&name.0))
    }

    fn leave_place(&self) -> Option<Arc<Place>> {
        let place = self.extensions().get::<Arc<Place>>()?;
        place.release();
        Some(Arc::clone(place))
    }

    fn actor(&self) -> Actor {
        let text = |text: Option<&Arc<str>>| text.map_or("unknown", |text| text).to_owned();
        Actor {
            caller: text(self.extensions().get::<Caller>().map(|caller| &caller.0)),
            request_id: text(self.extensions().get::<RequestId>().map(|id| &id.0)),
        }
    }

    fn record(&self) -> RpcRecord {
        self.extensions().get::<RpcRecord>().cloned().unwrap_or_default()
    }
}
