//! The request context that middleware layers store for the handlers.

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
    session::SessionVerdict,
    store::FailureKind,
    unknown_lookup_limiter::{LoadContext, LookupOrigin},
    verdict::Source,
};

/// The id of a request in logs, in the audit log, and for the caller (`x-request-id`).
#[derive(Clone, Debug)]
pub struct RequestId(pub Arc<str>);

/// The caller's name; for an unknown caller, `unauthenticated` and its address.
#[derive(Clone, Debug)]
pub struct CallerLabel(pub Arc<str>);

/// The caller's name in the callers file. Missing if the service has no callers file.
#[derive(Clone, Debug)]
pub struct CallerName(pub Arc<str>);

/// The moment at which the caller stops waiting.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(pub Instant);

impl Deadline {
    /// Checks that the caller still waits.
    ///
    /// # Errors
    /// [`ApiError::DeadlineExpired`] if the deadline has passed.
    pub fn ensure_not_passed(self) -> Result<(), ApiError> {
        if self.0 > Instant::now() { Ok(()) } else { Err(ApiError::DeadlineExpired) }
    }
}

/// The time budget of each operation of a handler: the handler's limit and the caller's deadline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    limit: Duration,
    caller_deadline: Option<Deadline>,
}

impl Budget {
    /// Returns the deadline of an operation that starts now: the caller's deadline or the limit, whichever is
    /// earlier.
    ///
    /// # Errors
    /// [`ApiError::DeadlineExpired`] if the caller's deadline has passed.
    pub(crate) fn deadline(self) -> Result<Instant, ApiError> {
        let own = Instant::now() + self.limit;
        let Some(caller) = self.caller_deadline else { return Ok(own) };
        caller.ensure_not_passed().map(|()| own.min(caller.0))
    }
}

/// The outcome of an RPC. The handler writes it; the access log and the metrics read it.
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
    /// Missing if the log filter does not select denial lines.
    denial_log: OnceLock<DenialLog>,
    has_oversized_message: AtomicBool,
    is_from_unknown_caller: bool,
}

impl RpcRecord {
    /// Creates the record of an RPC of an unknown caller, on a service that has a callers file.
    #[must_use]
    pub fn from_unknown_caller() -> Self {
        Self(Arc::new(RpcRecordState { is_from_unknown_caller: true, ..RpcRecordState::default() }))
    }

    /// Returns whether the caller is unknown. RPCs of unknown callers are never served, whatever the status
    /// of the refusal.
    #[must_use]
    pub fn is_from_unknown_caller(&self) -> bool {
        self.0.is_from_unknown_caller
    }

    /// Enables a log line for each denial of this RPC.
    pub fn log_denials(&self, log: DenialLog) {
        // Set once, by the access log layer.
        let _ = self.0.denial_log.set(log);
    }

    /// Records a decision. The record keeps the first one and counts all.
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

    /// Records that a database call of the RPC failed.
    pub fn set_failure(&self, kind: FailureKind) {
        let _ = self.0.failure.set(kind);
    }

    /// Records a key or session that could not be decided because the database failed.
    pub fn add_undecided(&self, kind: FailureKind) {
        self.set_failure(kind);
        if let Some(log) = self.0.denial_log.get() {
            log.log_undecided(kind.as_str());
        }
        self.0.tally.count_failure(kind);
        self.0.undecided_count.fetch_add(1, Ordering::Relaxed);
    }

    /// Records a key that was not checked, because no permit or no time was left.
    pub fn add_not_tried(&self) {
        if let Some(log) = self.0.denial_log.get() {
            log.log_undecided("not_tried");
        }
        self.0.tally.count_not_tried();
        self.0.undecided_count.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts messages that have arrived from the caller.
    pub fn add_received_messages(&self, count: u32) {
        if count > 0 {
            self.0.received_messages.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Takes the number of messages that have arrived since the last call.
    #[must_use]
    pub fn take_received_messages(&self) -> u32 {
        match self.0.received_messages.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.0.received_messages.swap(0, Ordering::Relaxed),
        }
    }

    /// Records that a message of the caller exceeds its size limit.
    pub fn mark_message_too_large(&self) {
        self.0.has_oversized_message.store(true, Ordering::Relaxed);
    }

    /// Returns whether a message exceeded its size limit. RESOURCE_EXHAUSTED is then no sign of an overloaded
    /// service.
    #[must_use]
    pub fn has_oversized_message(&self) -> bool {
        self.0.has_oversized_message.load(Ordering::Relaxed)
    }

    /// Returns the counts that the metrics have not taken over yet.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.0.tally
    }

    /// Returns the verdict and its source, if the RPC decided exactly one key.
    #[must_use]
    pub fn verdict(&self) -> Option<(SessionVerdict, Source)> {
        self.0.first_decision.get().copied().filter(|_| self.decisions() == 1)
    }

    /// Returns the number of keys that were decided.
    #[must_use]
    pub fn decisions(&self) -> u64 {
        self.0.decided_count.load(Ordering::Relaxed)
    }

    /// Returns the number of keys that could not be decided.
    #[must_use]
    pub fn undecided(&self) -> u64 {
        self.0.undecided_count.load(Ordering::Relaxed)
    }

    /// Returns the kind of the first database failure.
    #[must_use]
    pub fn failure(&self) -> Option<FailureKind> {
        self.0.failure.get().copied()
    }
}

/// Reads the context of a request. Each method has a default for requests that passed through no layers, as
/// in tests.
pub(crate) trait RequestContext {
    /// Returns the time budget of each operation, at most `limit`.
    fn budget(&self, limit: Duration) -> Budget;

    /// Returns the caller's deadline or the end of `limit`, whichever is earlier.
    ///
    /// # Errors
    /// [`ApiError::DeadlineExpired`] if the caller's deadline has passed.
    fn deadline(&self, limit: Duration) -> Result<Instant, ApiError> {
        self.budget(limit).deadline()
    }

    /// Returns the origin of the request for the limiter of unknown lookups.
    fn lookup_origin(&self) -> LookupOrigin;

    /// Returns the origin of the request and its [`deadline`](Self::deadline).
    ///
    /// # Errors
    /// [`ApiError::DeadlineExpired`] if the caller's deadline has passed.
    fn load_context(&self, limit: Duration) -> Result<LoadContext, ApiError> {
        Ok(LoadContext { origin: self.lookup_origin(), deadline: self.deadline(limit)? })
    }

    /// Returns the caller's name in the callers file; `None` if the service has no callers file.
    fn caller_name(&self) -> Option<Arc<str>>;

    /// Releases the request's permit and returns it: the messages of its stream acquire permits like it.
    /// `None` without layers.
    fn release_permit(&self) -> Option<Arc<Permit>>;

    /// Returns the actor of a change, for the audit log.
    fn actor(&self) -> Actor;

    /// Returns the record for the outcome of the RPC.
    fn rpc_record(&self) -> RpcRecord;
}

impl<T> RequestContext for tonic::Request<T> {
    fn budget(&self, limit: Duration) -> Budget {
        Budget { limit, caller_deadline: self.extensions().get::<Deadline>().copied() }
    }

    fn lookup_origin(&self) -> LookupOrigin {
        let caller = self.extensions().get::<CallerLabel>();
        caller.map_or(LookupOrigin::INTERNAL, |caller| LookupOrigin::caller(Arc::clone(&caller.0)))
    }

    fn caller_name(&self) -> Option<Arc<str>> {
        self.extensions().get::<CallerName>().map(|name| Arc::clone(&name.0))
    }

    fn release_permit(&self) -> Option<Arc<Permit>> {
        let permit = self.extensions().get::<Arc<Permit>>()?;
        permit.release();
        Some(Arc::clone(permit))
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
