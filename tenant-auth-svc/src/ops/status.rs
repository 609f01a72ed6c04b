//! What there is to say, before anybody puts it into words: kinds, moments and ages, and never a message of the
//! database's.

use std::time::Duration;

use super::expiry::CredentialExpiry;
use crate::domain::{
    clock::{Moment, UnixMillis},
    condition::Condition,
    identity::DistrustReason,
    store::Circuit,
};

/// How the service and what it depends on fare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceStatus {
    /// When it was looked at.
    pub now: Moment,
    /// How far the process has come.
    pub phase: LifecyclePhase,
    /// Since when it has been that far.
    pub phase_since: Moment,
    /// How the database fared when it was last read; `None` before the first time. Of writes it says nothing.
    pub reads: Option<Condition>,
    /// Why the database is not believed, and since when, if it is not.
    pub distrust: Option<(DistrustReason, Moment)>,
    /// For how long the copy of the database that is read has stood still; `None` while it moves.
    pub standstill: Option<Duration>,
    /// This replica's clock less the database's, in milliseconds; `None` before they were compared.
    pub clock_offset: Option<i64>,
    /// How late a thread of this process was at most within the last minute.
    pub scheduler_lag: Duration,
    /// How changes fare.
    pub writes: WriteStatus,
    /// Which circuits are open, in the order of [`Circuit::ALL`]: of their calls, one is sent now and then.
    pub open_circuits: [bool; Circuit::ALL.len()],
    /// How the change feed fares.
    pub feed: FeedStatus,
    /// The age of the oldest answer that was given in the last minute; `None` when none was.
    pub oldest_answer: Option<Duration>,
    /// For how long memory may answer without the database.
    pub grace: GraceStatus,
    /// Files that have changed into something that cannot be used: what was before it stays in force.
    pub files: FileStatus,
    /// When certificates and tokens expire, as far as they say.
    pub expiries: Vec<CredentialExpiry>,
    /// How many entries the deny list has.
    pub denied_entries: usize,
    /// The id of a pepper that live keys are stored under and that this replica lacks.
    pub pepper_missing: Option<String>,
}

/// For how long memory may answer without the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraceStatus {
    /// The one in force.
    pub in_force: Duration,
    /// What is configured.
    pub configured: Duration,
    /// Until when an operator's takes its place; `None` if none does.
    pub set_until: Option<UnixMillis>,
    /// What it covers; only while the database is away.
    pub coverage: Option<GraceCoverage>,
}

/// What the grace covers of the keys in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraceCoverage {
    /// For the oldest key in use; `None` if none is.
    pub oldest_key: Option<TimeLeft>,
    /// For the median of the keys in use.
    pub median_key: Option<TimeLeft>,
    /// Keys in memory that it no longer covers.
    pub keys_beyond: u64,
}

/// How far away an end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeLeft {
    /// It comes after this time.
    Remaining(Duration),
    /// It came this long ago.
    Elapsed(Duration),
}

impl TimeLeft {
    /// How far an end is away at a moment.
    #[must_use]
    pub fn until(end: Duration, now: Duration) -> Self {
        match end.checked_sub(now) {
            Some(left) if !left.is_zero() => Self::Remaining(left),
            Some(_) | None => Self::Elapsed(now.saturating_sub(end)),
        }
    }

    /// In seconds; negative once it is over.
    #[must_use]
    pub fn signed_seconds(self) -> f64 {
        match self {
            Self::Remaining(left) => left.as_secs_f64(),
            Self::Elapsed(ago) => -ago.as_secs_f64(),
        }
    }
}

/// From this on a process counts as starved of CPU: a third of what the first attempt at a validation's read has, by default.
pub const MAX_SCHEDULER_LAG: Duration = Duration::from_millis(100);

/// Above this many milliseconds a clock counts as wrong: keys and sessions end at the wrong moment by it.
pub const MAX_CLOCK_OFFSET_MILLIS: i64 = 5_000;

/// How changes fare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteStatus {
    /// How the last one that was sent fared; `None` before the first one: then nobody knows whether the database takes any.
    pub condition: Option<Condition>,
    /// How many wait for their turn.
    pub waiting: usize,
    /// For how long the one that is under way has been; `None` when none is.
    pub under_way_for: Option<Duration>,
}

/// Which files have changed into something that cannot be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileStatus {
    /// That of the callers.
    pub callers_refused: bool,
    /// Those of the certificates.
    pub certificates_refused: bool,
    /// That of the deny list.
    pub deny_list_refused: bool,
    /// That of the database's token: it cannot be read, or the database refuses it for reads or for writes.
    pub database_token_refused: bool,
}

/// How far the process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifecyclePhase {
    /// The database has not been reached yet, or its schema is brought up to date.
    Waiting,
    /// It answers. It stays so through an outage of the database.
    Ready,
    /// The database cannot be used as it is, for this kind of reason.
    Unusable(&'static str),
    /// It was told to stop.
    Stopping,
}

impl LifecyclePhase {
    /// In a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::Unusable(_) => "unusable",
            Self::Stopping => "stopping",
        }
    }

    /// Whether requests should be sent here.
    #[must_use]
    pub fn is_ready(self) -> bool {
        self == Self::Ready
    }
}

/// How the change feed fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedStatus {
    /// It is configured to be off.
    Off,
    /// It was never heard so far.
    NotYetLive,
    /// It was heard this long ago, and vouches for what is in memory.
    Live(Duration),
    /// It was last heard at this moment, which is too long ago.
    SilentSince(Moment),
}
