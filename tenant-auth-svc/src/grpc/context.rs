//! What the layers know about a request and the handlers want to know.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    denials::{DenialLog, DenialSubject},
    error::ApiError,
    permits::Permit,
    tally::Tally,
};
use crate::domain::{
    audit::Actor,
    guess_limiter::{GuessOrigin, LoadContext},
    session::SessionVerdict,
    store::FailureKind,
    verdict::Source,
};

/// Names a request in logs, in the audit log, and to the caller (`x-request-id`).
#[derive(Clone, Debug)]
pub struct RequestId(pub Arc<str>);

/// Who calls: the caller's name, or where it calls from, marked as such, if it is not known.
#[derive(Clone, Debug)]
pub struct CallerLabel(pub Arc<str>);

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
    /// [`ApiError::DeadlinePassed`] when that is so.
    pub fn ensure_not_passed(self) -> Result<(), ApiError> {
        if self.0 > Instant::now() { Ok(()) } else { Err(ApiError::DeadlinePassed) }
    }
}

/// How long a handler may take for each thing it is asked: a limit of its own, and the caller's deadline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    limit: Duration,
    caller_deadline: Option<Deadline>,
}

impl Budget {
    /// When to give up on what begins now: the caller's deadline, or after the limit, whichever comes first.
    ///
    /// # Errors
    /// [`ApiError::DeadlinePassed`] when the caller's deadline has passed.
    pub(super) fn deadline(self) -> Result<Instant, ApiError> {
        let own = Instant::now() + self.limit;
        let Some(caller) = self.caller_deadline else { return Ok(own) };
        caller.ensure_not_passed().map(|()| own.min(caller.0))
    }
}

/// What an RPC came to, filled in by its handler and read by the log line at its end.
#[derive(Clone, Debug, Default)]
pub struct RpcRecord(Arc<RpcRecordState>);

#[derive(Debug, Default)]
struct RpcRecordState {
    first_decision: OnceLock<(SessionVerdict, Source)>,
    failure: OnceLock<FailureKind>,
    decided_count: AtomicU64,
    undecided_count: AtomicU64,
    /// Messages of the caller's that the metrics have not counted.
    received_messages: AtomicU32,
    tally: Tally,
    /// Absent where nobody asks for lines of denials.
    denial_log: OnceLock<DenialLog>,
    has_oversized_message: AtomicBool,
    is_from_unknown_caller: bool,
}

impl RpcRecord {
    /// Of an RPC by somebody who is not known, where callers are known.
    #[must_use]
    pub fn from_unknown_caller() -> Self {
        Self(Arc::new(RpcRecordState { is_from_unknown_caller: true, ..RpcRecordState::default() }))
    }

    /// Whether nobody knows who asked: no such RPC is served, whatever it is refused for.
    #[must_use]
    pub fn is_from_unknown_caller(&self) -> bool {
        self.0.is_from_unknown_caller
    }

    /// Has each denial leave a line in the log.
    pub fn log_denials(&self, log: DenialLog) {
        // Set once: by the layer that makes the line of the RPC.
        let _ = self.0.denial_log.set(log);
    }

    /// A decision was made about a subject. The first one stands for the RPC, further ones are counted.
    pub fn add_decision(
        &self,
        verdict: impl Into<SessionVerdict>,
        source: Source,
        subject: DenialSubject<'_>,
    ) {
        let verdict = verdict.into();
        if let (Some(log), true) = (self.0.denial_log.get(), verdict != SessionVerdict::VALID) {
            log.log_denial(verdict, subject);
        }
        self.0.tally.count_decision(verdict, source);
        let _ = self.0.first_decision.set((verdict, source));
        self.0.decided_count.fetch_add(1, Ordering::Relaxed);
    }

    /// The database did not do what the RPC asked of it.
    pub fn set_failure(&self, kind: FailureKind) {
        let _ = self.0.failure.set(kind);
    }

    /// Nothing could be said about a key or a session, since the database gave no answer.
    pub fn add_undecided(&self, kind: FailureKind) {
        self.set_failure(kind);
        if let Some(log) = self.0.denial_log.get() {
            log.log_undecided(kind.as_str());
        }
        self.0.tally.count_failure(kind);
        self.0.undecided_count.fetch_add(1, Ordering::Relaxed);
    }

    /// A key was not looked at: there was no place for it, or no time.
    pub fn add_not_tried(&self) {
        if let Some(log) = self.0.denial_log.get() {
            log.log_undecided("not_tried");
        }
        self.0.tally.count_not_tried();
        self.0.undecided_count.fetch_add(1, Ordering::Relaxed);
    }

    /// Messages of the caller's have arrived.
    pub fn add_received_messages(&self, count: u32) {
        if count > 0 {
            self.0.received_messages.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// How many messages have arrived since this was last asked.
    #[must_use]
    pub fn take_received_messages(&self) -> u32 {
        match self.0.received_messages.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.0.received_messages.swap(0, Ordering::Relaxed),
        }
    }

    /// A message of the caller's is longer than it may be.
    pub fn mark_message_too_large(&self) {
        self.0.has_oversized_message.store(true, Ordering::Relaxed);
    }

    /// Whether a message was longer than it may be: RESOURCE_EXHAUSTED for that is no sign that anything here is exhausted.
    #[must_use]
    pub fn has_oversized_message(&self) -> bool {
        self.0.has_oversized_message.load(Ordering::Relaxed)
    }

    /// What was decided about each of its keys, not counted so far.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.0.tally
    }

    /// The verdict, if the RPC was about exactly one key; how it was reached.
    #[must_use]
    pub fn verdict(&self) -> Option<(SessionVerdict, Source)> {
        self.0.first_decision.get().copied().filter(|_| self.decisions() == 1)
    }

    /// How many keys were decided about.
    #[must_use]
    pub fn decisions(&self) -> u64 {
        self.0.decided_count.load(Ordering::Relaxed)
    }

    /// How many keys could not be decided about.
    #[must_use]
    pub fn undecided(&self) -> u64 {
        self.0.undecided_count.load(Ordering::Relaxed)
    }

    /// Why the database gave no answer, the first time.
    #[must_use]
    pub fn failure(&self) -> Option<FailureKind> {
        self.0.failure.get().copied()
    }
}

/// Reads a request's context. What a layer has not set (in a test without layers) has a plain stand-in.
pub(super) trait RequestContext {
    /// How long to take for each thing that is asked, at most `limit`.
    fn budget(&self, limit: Duration) -> Budget;

    /// When to give up: the caller's deadline, or after `limit`, whichever comes first.
    ///
    /// # Errors
    /// [`ApiError::DeadlinePassed`] when the caller's deadline has passed.
    fn deadline(&self, limit: Duration) -> Result<Instant, ApiError> {
        self.budget(limit).deadline()
    }

    /// On whose behalf to ask.
    fn guess_origin(&self) -> GuessOrigin;

    /// On whose behalf to ask, and until when: see [`deadline`](Self::deadline).
    ///
    /// # Errors
    /// [`ApiError::DeadlinePassed`] when the caller's deadline has passed.
    fn guess_source(&self, limit: Duration) -> Result<LoadContext, ApiError> {
        Ok(LoadContext { origin: self.guess_origin(), deadline: self.deadline(limit)? })
    }

    /// Who calls, by the name in the callers file; `None` where callers have none.
    fn caller_name(&self) -> Option<Arc<str>>;

    /// Gives the request's own place back; what comes later on its stream can take others like it. `None` without layers.
    fn release_permit(&self) -> Option<Arc<Permit>>;

    /// Who asks for a change.
    fn actor(&self) -> Actor;

    /// Where to note what the RPC comes to.
    fn rpc_record(&self) -> RpcRecord;
}

impl<T> RequestContext for tonic::Request<T> {
    fn budget(&self, limit: Duration) -> Budget {
        Budget { limit, caller_deadline: self.extensions().get::<Deadline>().copied() }
    }

    fn guess_origin(&self) -> GuessOrigin {
        let caller = self.extensions().get::<CallerLabel>();
        caller.map_or(GuessOrigin::INTERNAL, |caller| GuessOrigin::caller(Arc::clone(&caller.0)))
    }

    fn caller_name(&self) -> Option<Arc<str>> {
        self.extensions().get::<CallerName>().map(|name| Arc::clone(&name.0))
    }

    fn release_permit(&self) -> Option<Arc<Permit>> {
        let place = self.extensions().get::<Arc<Permit>>()?;
        place.release();
        Some(Arc::clone(place))
    }

    fn actor(&self) -> Actor {
        let text = |text: Option<&Arc<str>>| text.map_or("unknown", |text| text).to_owned();
        Actor {
            caller: text(self.extensions().get::<CallerLabel>().map(|caller| &caller.0)),
            request_id: text(self.extensions().get::<RequestId>().map(|id| &id.0)),
        }
    }

    fn rpc_record(&self) -> RpcRecord {
        self.extensions().get::<RpcRecord>().cloned().unwrap_or_default()
    }
}
