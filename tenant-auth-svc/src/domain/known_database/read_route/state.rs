//! The state behind the route: what the primary had, and what the read replica shows of it.

use std::{collections::VecDeque, sync::atomic::Ordering, time::Duration};

use super::{COMPARISON_TIMEOUT, MAX_LAG, ReadSource, ReplicationIndex, RouteStatus, UnusedReason};

/// Maximum number of states that are awaited. More of them say no more about the lag.
const MAX_AWAITED: usize = 64;
/// Failed reads in a row after which the read replica, or the primary, counts as failing.
const MAX_FAILURES: u32 = 2;
/// For how long every read of a read replica that was left has to show a small lag before it is used again. It doubles
/// with each time that the read replica is left shortly after, up to [`MAX_RECOVERY_TIME`]: the route must not flap.
const MIN_RECOVERY_TIME: Duration = Duration::from_secs(3);
const MAX_RECOVERY_TIME: Duration = Duration::from_secs(60);
/// A read replica that was used for this long has recovered.
const STABLE_TIME: Duration = Duration::from_secs(60);
/// The lag below which a read counts towards the recovery.
const MAX_RECOVERED_LAG: Duration = Duration::from_millis(500);

/// The end of a server's change log, and its heartbeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// The position of the last entry.
    pub position: i64,
    /// The number of the heartbeat.
    pub beat: i64,
}

impl LogState {
    fn shows(self, other: Self) -> bool {
        self.position >= other.position && self.beat >= other.beat
    }
}

/// The state of the primary at one read of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrimaryState {
    /// The end of its log.
    pub log: LogState,
    /// When the read began.
    pub asked_at: Duration,
    /// When its heartbeat was written.
    pub beat_at: Duration,
    /// When the answer arrived.
    pub answered_at: Duration,
}

/// A change of the route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transition {
    Used,
    Left(UnusedReason),
}

#[derive(Debug)]
pub(super) struct RouteState {
    /// The last state of the primary.
    pub(super) primary: Option<PrimaryState>,
    /// When the primary's log was last asked for.
    pub(super) primary_checked_at: Option<Duration>,
    primary_failures: u32,
    /// When the read replica's log was last asked for.
    pub(super) read_replica_checked_at: Option<Duration>,
    shown: LogState,
    /// The states of the primary that the read replica has not shown, with the replication index known at each.
    awaited: VecDeque<(PrimaryState, u64)>,
    /// When the primary was asked for the last state that the read replica has shown.
    shown_at: Option<Duration>,
    /// The read replica shows every write that was acknowledged before this time.
    complete_until: Option<Duration>,
    /// `None` while the read replica is used.
    unused: Option<UnusedReason>,
    failures: u32,
    /// Since when every read of an unused read replica has shown a small lag.
    recovering_since: Option<Duration>,
    recovery_time: Duration,
    /// When it was used again after it had been left.
    recovered_at: Option<Duration>,
    /// In the order of [`ReadSource`].
    indexes: [ReplicationIndex; 2],
}

impl RouteState {
    pub(super) fn new(indexes: [ReplicationIndex; 2]) -> Self {
        Self {
            primary: None,
            primary_checked_at: None,
            primary_failures: 0,
            read_replica_checked_at: None,
            shown: LogState::default(),
            awaited: VecDeque::new(),
            shown_at: None,
            complete_until: None,
            unused: Some(UnusedReason::Unproven),
            failures: 0,
            recovering_since: None,
            recovery_time: MIN_RECOVERY_TIME,
            recovered_at: None,
            indexes,
        }
    }

    pub(super) fn reset(&mut self) {
        // Another database counts from its own start.
        self.indexes.iter().for_each(|index| index.store(0, Ordering::Relaxed));
        *self = Self::new(self.indexes.clone());
    }

    pub(super) fn source(&self, now: Duration) -> ReadSource {
        let is_used = self.unused_reason(now).is_none();
        // Old answers of the read replica, dated as such, are better than none.
        let is_only_one = self.primary_failures >= MAX_FAILURES
            && self.failures < MAX_FAILURES
            && !matches!(self.unused, Some(UnusedReason::Unproven | UnusedReason::OtherDatabase));
        if is_used || is_only_one { ReadSource::ReadReplica } else { ReadSource::Primary }
    }

    /// Why the read replica is not used; `None` while it is.
    fn unused_reason(&self, now: Duration) -> Option<UnusedReason> {
        let is_behind = || (self.lag(now) >= MAX_LAG).then_some(UnusedReason::Behind);
        let is_unproven = || (!self.is_compared(now)).then_some(UnusedReason::Unproven);
        self.unused.or_else(is_behind).or_else(is_unproven)
    }

    fn is_compared(&self, now: Duration) -> bool {
        self.primary.is_some_and(|primary| now.saturating_sub(primary.asked_at) <= COMPARISON_TIMEOUT)
    }

    /// For how long the read replica has lacked a state of the primary.
    pub(super) fn lag(&self, now: Duration) -> Duration {
        self.awaited.front().map_or(Duration::ZERO, |(oldest, _)| now.saturating_sub(oldest.answered_at))
    }

    /// Whether the read replica shows every write that was acknowledged by then, also one that the change log does not
    /// contain.
    pub(super) fn shows_everything_until(&self, time: Duration) -> bool {
        self.complete_until.is_some_and(|until| until > time)
    }

    pub(super) fn record_primary(&mut self, primary: PrimaryState) {
        self.primary_checked_at = Some(primary.asked_at);
        self.primary_failures = 0;
        if self.unused.is_none() && !self.is_compared(primary.asked_at) {
            self.unused = Some(UnusedReason::Unproven);
        }
        self.primary = Some(primary);
        if self.awaited.len() < MAX_AWAITED {
            self.awaited.push_back((primary, self.index(ReadSource::Primary)));
        }
        self.release_shown();
    }

    pub(super) fn record_primary_failure(&mut self, asked_at: Duration) {
        self.primary_checked_at = Some(asked_at);
        self.primary_failures = self.primary_failures.saturating_add(1);
    }

    pub(super) fn record_read_replica(
        &mut self,
        shown: LogState,
        asked_at: Duration,
        now: Duration,
    ) -> Option<Transition> {
        self.read_replica_checked_at = Some(asked_at);
        self.failures = 0;
        self.shown = shown;
        self.release_shown();
        let shows_recent_state = self.shown_at.is_some_and(|at| now.saturating_sub(at) < MAX_LAG);
        let is_good = self.primary_failures == 0 && self.lag(now) < MAX_RECOVERED_LAG && shows_recent_state;
        let since = if is_good { *self.recovering_since.get_or_insert(now) } else { now };
        if !is_good {
            self.recovering_since = None;
        }
        let recovered = match self.unused {
            None => return self.evaluate(now),
            Some(UnusedReason::Unproven) => is_good,
            Some(UnusedReason::Behind | UnusedReason::Failing | UnusedReason::OtherDatabase) => {
                now.saturating_sub(since) >= self.recovery_time
            }
        };
        if !recovered {
            return None;
        }
        self.recovered_at = (self.unused != Some(UnusedReason::Unproven)).then_some(now);
        (self.unused, self.recovering_since) = (None, None);
        Some(Transition::Used)
    }

    /// Whether each read of the read replica decides about its recovery.
    pub(super) fn is_read_replica_recovering(&self) -> bool {
        match self.unused {
            None => false,
            Some(UnusedReason::Unproven) => true,
            Some(UnusedReason::Behind | UnusedReason::Failing | UnusedReason::OtherDatabase) => {
                self.recovering_since.is_some()
            }
        }
    }

    pub(super) fn record_failure(&mut self, asked_at: Duration, now: Duration) -> Option<Transition> {
        self.failures = self.failures.saturating_add(1);
        self.read_replica_checked_at = Some(asked_at);
        self.recovering_since = None;
        (self.failures >= MAX_FAILURES).then(|| self.leave(UnusedReason::Failing, now)).flatten()
    }

    pub(super) fn record_other_database(&mut self, asked_at: Duration, now: Duration) -> Option<Transition> {
        self.read_replica_checked_at = Some(asked_at);
        self.leave(UnusedReason::OtherDatabase, now)
    }

    /// Leaves a read replica that has become too old.
    pub(super) fn evaluate(&mut self, now: Duration) -> Option<Transition> {
        let is_behind = self.unused.is_none() && self.lag(now) >= MAX_LAG;
        is_behind.then(|| self.leave(UnusedReason::Behind, now)).flatten()
    }

    fn leave(&mut self, reason: UnusedReason, now: Duration) -> Option<Transition> {
        self.recovering_since = None;
        if self.unused.is_none() {
            let is_stable = self.recovered_at.is_none_or(|at| now.saturating_sub(at) >= STABLE_TIME);
            let doubled = (self.recovery_time * 2).min(MAX_RECOVERY_TIME);
            self.recovery_time = if is_stable { MIN_RECOVERY_TIME } else { doubled };
        }
        (self.unused.replace(reason) != Some(reason)).then_some(Transition::Left(reason))
    }

    fn index(&self, source: ReadSource) -> u64 {
        self.indexes[source as usize].load(Ordering::Relaxed)
    }

    fn release_shown(&mut self) {
        let index = self.index(ReadSource::ReadReplica);
        while let Some((oldest, index_then)) = self.awaited.front()
            && self.shown.shows(oldest.log)
        {
            // The log and the heartbeat do not show, say, usage that was written after the heartbeat. The replication
            // index does, where the server reports one.
            let has_index = *index_then > 0 && index >= *index_then;
            let until = if has_index { oldest.asked_at } else { oldest.beat_at };
            self.complete_until = self.complete_until.max(Some(until));
            self.shown_at = Some(oldest.asked_at);
            self.awaited.pop_front();
        }
    }

    pub(super) fn status(&self, now: Duration) -> RouteStatus {
        let source = self.source(now);
        let position = self.primary.map_or(0, |primary| primary.log.position);
        RouteStatus {
            source,
            unused: self.unused_reason(now),
            lag: self.lag(now),
            lag_positions: u64::try_from(position.saturating_sub(self.shown.position)).unwrap_or_default(),
            is_primary_failing: self.primary_failures >= MAX_FAILURES,
        }
    }
}
