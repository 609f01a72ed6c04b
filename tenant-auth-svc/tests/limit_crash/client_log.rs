//! What clients know: the outcome of each request, and when and to which replica it was sent.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tenant_auth_proto::v1::{DecidedBy, ReservationState};

/// A request, repeated until its outcome was known if it had an id.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) tenant: usize,
    pub(crate) key: usize,
    /// Metrics and amounts.
    pub(crate) costs: Vec<(&'static str, i64)>,
    pub(crate) call: Call,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) outcome: Outcome,
    /// How a reservation was ended by its client.
    pub(crate) end: Option<ReservationEnd>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Consume,
    /// With this consume_id.
    ConsumeOnce(String),
    /// A repetition of a call whose outcome was known.
    ConsumeAgain(String),
    /// With this reservation_id.
    Reserve(String),
}

/// Times are since the start of the test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    pub(crate) replica: usize,
    pub(crate) sent: Duration,
    /// When the response came, or the client gave up.
    pub(crate) ended: Duration,
    /// Whether a response came: otherwise the replica may still work on it.
    pub(crate) is_answered: bool,
}

/// What one limit said, by its name, and the window.
pub(crate) type Decision = (String, Option<i64>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything is taken.
    Admitted(Vec<Decision>),
    /// An earlier attempt had taken it. The windows are not known.
    AlreadyTaken,
    /// Nothing is taken: these limits are exceeded. The database was asked, or had refused shortly before.
    Denied(Vec<Decision>, DecidedBy),
    /// Nothing is taken: the replica did not decide, or the request did not reach it.
    NotTaken,
    /// The response to a request without an id was lost.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReservationEnd {
    /// The state, and for each limit its name, what is charged, and what was missing.
    Settled(ReservationState, Vec<(String, i64, i64)>),
    Cancelled(ReservationState),
}

impl Entry {
    /// When it was first sent.
    pub(crate) fn sent(&self) -> Duration {
        self.attempts.first().map_or(Duration::ZERO, |attempt| attempt.sent)
    }

    /// When its outcome was known.
    pub(crate) fn ended(&self) -> Duration {
        self.attempts.last().map_or(Duration::MAX, |attempt| attempt.ended)
    }

    pub(crate) fn id(&self) -> Option<&str> {
        match &self.call {
            Call::Consume => None,
            Call::ConsumeOnce(id) | Call::ConsumeAgain(id) | Call::Reserve(id) => Some(id),
        }
    }

    pub(crate) fn is_admitted(&self) -> bool {
        matches!(self.outcome, Outcome::Admitted(_) | Outcome::AlreadyTaken)
    }
}

/// The log of all clients.
#[derive(Debug)]
pub(crate) struct ClientLog {
    start: Instant,
    entries: Mutex<Vec<Entry>>,
    /// Attempts that replicas did not decide, of tenants whose limits are closed in an outage, or are held in part.
    undecided: [AtomicUsize; 2],
}

impl ClientLog {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), entries: Mutex::default(), undecided: Default::default() }
    }

    /// Returns the time since the start.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn note_undecided(&self, is_closed: bool) {
        self.undecided[usize::from(!is_closed)].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn undecided(&self) -> [usize; 2] {
        [0, 1].map(|policy| self.undecided[policy].load(Ordering::Relaxed))
    }

    pub(crate) fn add(&self, entry: Entry) {
        self.entries.lock().unwrap().push(entry);
    }

    pub(crate) fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut *self.entries.lock().unwrap())
    }
}
