//! The status of the service as data, before it is rendered: kinds, times and ages, and never a message of the
//! database.

use std::time::Duration;

use super::expiry::CredentialExpiry;
use crate::domain::{
    clock::{Moment, UnixMillis},
    condition::Condition,
    identity::DistrustReason,
    known_database::read_route::RouteStatus,
    store::Circuit,
};

/// The status of the service and of its dependencies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceStatus {
    /// When the status was collected.
    pub now: Moment,
    /// State of the process.
    pub phase: LifecyclePhase,
    /// Since when the process has been in that state.
    pub phase_since: Moment,
    /// Result of the last database read; `None` before the first one. It says nothing about writes.
    pub reads: Option<Condition>,
    /// Why the database is not trusted, and since when; `None` if it is trusted.
    pub distrust: Option<(DistrustReason, Moment)>,
    /// For how long the read replica of the database has been stalled; `None` if it is not.
    pub read_replica_stalled_for: Option<Duration>,
    /// Where reads go; `None` if one URL serves reads and writes.
    pub read_route: Option<RouteStatus>,
    /// This replica's clock minus the database's clock, in milliseconds; `None` before the first comparison.
    pub clock_offset: Option<i64>,
    /// Maximum scheduler lag of a thread of this process within the last minute.
    pub scheduler_lag: Duration,
    /// Status of writes.
    pub writes: WriteStatus,
    /// Which circuits are open, in the order of [`Circuit::ALL`]. An open circuit rejects calls, and periodically
    /// sends one as a probe.
    pub open_circuits: [bool; Circuit::ALL.len()],
    /// Status of the change feed.
    pub feed: FeedStatus,
    /// Age of the oldest answer given in the last minute; `None` without an answer.
    pub oldest_answer: Option<Duration>,
    /// How long the cache may serve stale answers without the database.
    pub grace: GraceStatus,
    /// Files whose current content was refused; the previous content stays in effect.
    pub files: FileStatus,
    /// When certificates and tokens expire, as far as known.
    pub expiries: Vec<CredentialExpiry>,
    /// Number of entries in the deny list.
    pub denied_entries: usize,
    /// Result of the last exchange of leases of limits with the database; `None` before the first one.
    pub limits: Option<Condition>,
    /// The id of a pepper under which live keys are stored and that this replica lacks.
    pub pepper_missing: Option<String>,
}

/// How long the cache may serve stale answers without the database (stale-if-error grace).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraceStatus {
    /// The effective grace.
    pub in_force: Duration,
    /// The configured grace.
    pub configured: Duration,
    /// When an operator's override ends; `None` without an override.
    pub set_until: Option<UnixMillis>,
    /// What the grace covers; only while the database is unavailable.
    pub coverage: Option<GraceCoverage>,
}

/// Which cached keys the grace covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraceCoverage {
    /// Time left for the oldest recently used key; `None` without such a key.
    pub oldest_key: Option<TimeLeft>,
    /// Time left for the median of the recently used keys.
    pub median_key: Option<TimeLeft>,
    /// Cached keys that are too old for the grace.
    pub keys_beyond: u64,
}

/// Time until an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeLeft {
    /// The end is this far in the future.
    Remaining(Duration),
    /// The end is this far in the past.
    Elapsed(Duration),
}

impl TimeLeft {
    /// Returns the time from `now` until `end`.
    #[must_use]
    pub fn until(end: Duration, now: Duration) -> Self {
        match end.checked_sub(now) {
            Some(left) if !left.is_zero() => Self::Remaining(left),
            Some(_) | None => Self::Elapsed(now.saturating_sub(end)),
        }
    }

    /// In seconds; negative after the end.
    #[must_use]
    pub fn signed_seconds(self) -> f64 {
        match self {
            Self::Remaining(left) => left.as_secs_f64(),
            Self::Elapsed(ago) => -ago.as_secs_f64(),
        }
    }
}

/// From this lag on a process counts as starved of CPU: a third of the default timeout of the first attempt of a
/// validation's read.
pub const MAX_SCHEDULER_LAG: Duration = Duration::from_millis(100);

/// Above this offset in milliseconds the clock counts as wrong: keys and sessions expire at the wrong time.
pub const MAX_CLOCK_OFFSET_MILLIS: i64 = 5_000;

/// Status of writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteStatus {
    /// Result of the last write that was sent; `None` before the first one: until then it is unknown whether the
    /// database accepts writes.
    pub condition: Option<Condition>,
    /// Number of queued writes.
    pub waiting: usize,
    /// How long the current write has been in flight; `None` without one.
    pub under_way_for: Option<Duration>,
}

/// Which files were refused after a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileStatus {
    /// The callers file.
    pub callers_refused: bool,
    /// The certificate files.
    pub certificates_refused: bool,
    /// The deny list.
    pub deny_list_refused: bool,
    /// The keys that sign principal tokens.
    pub signing_keys_refused: bool,
    /// The database token file: it is unreadable, or the database rejects the token for reads or for writes.
    pub database_token_refused: bool,
}

impl FileStatus {
    /// The names of the files that were refused, for people.
    pub fn refused(self) -> impl Iterator<Item = &'static str> {
        let files = [
            (self.callers_refused, "callers"),
            (self.certificates_refused, "certificates"),
            (self.deny_list_refused, "deny list"),
            (self.signing_keys_refused, "principal keys"),
            (self.database_token_refused, "database token"),
        ];
        files.into_iter().filter(|(refused, _)| *refused).map(|(_, name)| name)
    }
}

/// State of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifecyclePhase {
    /// The database has not been reached yet, or its schema is being migrated.
    Waiting,
    /// The service is ready. It stays ready during an outage of the database.
    Ready,
    /// The database is unusable, for this kind of reason.
    Unusable(&'static str),
    /// The service is stopping.
    Stopping,
}

impl LifecyclePhase {
    /// Name for people and machines.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::Unusable(_) => "unusable",
            Self::Stopping => "stopping",
        }
    }

    /// Whether requests should be sent to this replica.
    #[must_use]
    pub fn is_ready(self) -> bool {
        self == Self::Ready
    }
}

/// Status of the change feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedStatus {
    /// The feed is switched off.
    Off,
    /// The feed has not been live yet.
    NotYetLive,
    /// The feed is live: its last poll was this long ago, and confirms the cached answers.
    Live(Duration),
    /// The feed is silent: its last poll was at this time, which is too long ago.
    SilentSince(Moment),
}
