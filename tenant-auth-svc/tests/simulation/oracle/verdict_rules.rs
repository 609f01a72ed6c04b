//! The rules for allowed answers.

use std::time::Duration;

use tenant_auth_svc::domain::{
    store::FailureKind,
    verdict::{Source, Verdict},
};

use super::{GRACE, ObservedAnswer, Oracle, ReadsState, ReplicaKnowledge, SimulatedTime};
use crate::history::{EventOrder, KeyEnd, KeyRow};

/// The default of `TENANT_AUTH_CACHE_FRESH`, plus the maximum jitter.
const FRESH_TIME: Duration = Duration::from_secs(6);
/// The default of `TENANT_AUTH_CACHE_STALE_WHILE_REVALIDATE`.
const STALE_WHILE_REVALIDATE: Duration = Duration::from_secs(60);
/// The default of `TENANT_AUTH_CACHE_NEGATIVE_TTL`.
const NEGATIVE_TIME: Duration = Duration::from_secs(5);
/// How long after a poll of a live feed cached entries count as confirmed.
const FEED_LIVENESS: Duration = Duration::from_secs(1);
/// Reads from a read replica whose stall was not yet detected count from the time of the read, not from the
/// start of the stall.
pub(crate) const MAX_UNNOTICED_STALL: Duration = Duration::from_secs(7);

impl Oracle {
    /// Returns the verdicts that a replica may give once the database works and all changes were polled.
    /// There is more than one if it holds revocations against the database.
    pub(crate) fn expected_verdicts(
        &self,
        replica: usize,
        digest: &str,
        reads: bool,
        now: SimulatedTime,
    ) -> Vec<Verdict> {
        match self.key(digest) {
            None => vec![Verdict::Unknown],
            Some(key) => {
                let suspended = self.is_suspended(&key.tenant);
                self.possible_verdicts(&self.views[replica], key, suspended, reads, now)
            }
        }
    }

    /// Checks an answer to a request sent just now. The error says why the answer is not allowed.
    pub(crate) fn check_answer(
        &mut self,
        replica: usize,
        digest: &str,
        reads: bool,
        now: SimulatedTime,
        answer: Result<ObservedAnswer, FailureKind>,
    ) -> Result<(), String> {
        let order = self.next_order();
        let view = &self.views[replica];
        let reachable = self.is_reachable(replica);
        // The read replica may not show the replica's own changes yet.
        let shown = self.visible_up_to(replica);
        let lags = shown.is_some_and(|(shown, _)| view.last_own_change > shown);
        let answer_seen = match answer {
            Err(FailureKind::Lagging) if lags => return Ok(()),
            Err(kind) if reachable => {
                return Err(format!("no answer ({kind:?}) although the database is healthy"));
            }
            Err(kind) if !lags && self.has_cached(replica, digest, now) => {
                return Err(format!("no answer ({kind:?}) for a cached key"));
            }
            Err(_) => return Ok(()),
            Ok(answer_seen) => answer_seen,
        };
        let confirmed = view.polled_at.is_some_and(|at| now.monotonic <= at + FEED_LIVENESS);
        // A known revocation is reported whatever the source of the rest of the record.
        let is_end = matches!(answer_seen.verdict, Verdict::Revoked | Verdict::TenantSuspended);
        let is_trusted = is_end || (self.reads != ReadsState::OtherDatabase && !view.read_replica_is_stalled);
        let honest = match answer_seen.source {
            Source::Database => answer_seen.answer_age < FRESH_TIME && is_trusted,
            Source::Fresh => answer_seen.answer_age < FRESH_TIME,
            Source::Refreshing => answer_seen.answer_age < STALE_WHILE_REVALIDATE && confirmed,
            Source::Stale => answer_seen.answer_age < GRACE && (!reachable || lags),
            Source::Negative => {
                answer_seen.answer_age < NEGATIVE_TIME && answer_seen.verdict == Verdict::Unknown
            }
            Source::None => false,
        };
        if !honest {
            return Err("the answer's source and age are not possible".to_owned());
        }
        if view.read_replica_is_stalled && !self.is_old_enough(replica, digest, now, answer_seen) {
            return Err(
                "the answer is older than reported: the read replica has been stalled for longer".to_owned()
            );
        }
        let allowed = match answer_seen.verdict {
            Verdict::Unknown => self.may_be_unknown(replica, digest, now, answer_seen.answer_age),
            _ => self.may_be_verdict(replica, digest, reads, now, answer_seen),
        };
        if !allowed {
            return Err("no state that this replica may still assume gives this verdict".to_owned());
        }
        if answer_seen.source == Source::Database {
            let view = &mut self.views[replica];
            view.has_read_since_outage |= view.has_polled_since_outage;
        }
        if answer_seen.source == Source::Database
            && answer_seen.verdict != Verdict::Unknown
            && !self.views[replica].log_broken
        {
            let order = shown.map_or(order, |(shown, _)| shown);
            self.views[replica].read.insert(digest.to_owned(), (order, now.monotonic));
        }
        Ok(())
    }

    /// Returns whether an answer from a stalled read replica reports its age. The replica may know more about
    /// later changes.
    fn is_old_enough(
        &self,
        replica: usize,
        digest: &str,
        now: SimulatedTime,
        answer_seen: ObservedAnswer,
    ) -> bool {
        let Some((shown, stopped)) = self.visible_up_to(replica) else { return true };
        let is_newer = |subject: &str| self.touched.get(subject).is_some_and(|at| *at > shown);
        let may_be_newer = is_newer(digest) || self.key(digest).is_none_or(|key| is_newer(&key.tenant));
        answer_seen.source != Source::Stale
            || may_be_newer
            || answer_seen.answer_age + MAX_UNNOTICED_STALL >= now.monotonic - stopped
    }

    /// Returns a predicate that says, for an event that ended a state, whether the replica saw the event
    /// before it read the record that it assumes.
    fn was_seen_before(
        &self,
        replica: usize,
        now: SimulatedTime,
        age: Duration,
    ) -> impl Fn(EventOrder, Duration) -> bool {
        move |end, at| self.visible_at(replica, end, at).is_some_and(|seen| seen + age < now.monotonic)
    }

    fn may_be_unknown(&self, replica: usize, digest: &str, now: SimulatedTime, age: Duration) -> bool {
        let Some(history) = self.keys.get(digest) else { return true };
        let view = &self.views[replica];
        // A key that was created and revoked or disabled between two polls may keep its negative entry for a few seconds.
        // Both answers are denials.
        let is_revoked = history.last().as_ref().is_some_and(|key| key.end().is_some());
        let reported_up_to = if is_revoked {
            view.started
        } else {
            view.polled_up_to.max(view.acknowledged_change_of(digest))
        };
        let imported = view.imported.get(digest).copied().unwrap_or_default();
        let answer_seen = |order| order <= reported_up_to.max(imported);
        history.believable(answer_seen, self.was_seen_before(replica, now, age)).any(Option::is_none)
    }

    /// Returns whether a verdict other than UNKNOWN follows from a state of the key and one of its tenant
    /// that the replica may have read and does not know to have ended.
    fn may_be_verdict(
        &self,
        replica: usize,
        digest: &str,
        reads: bool,
        now: SimulatedTime,
        answer_seen: ObservedAnswer,
    ) -> bool {
        let Some(history) = self.keys.get(digest) else { return false };
        let view = &self.views[replica];
        let reachable = self.is_reachable(replica);
        let admits = answer_seen.verdict == Verdict::Valid;
        // A known revocation may hide further changes as long as the database cannot be read.
        let any_denial = !admits && (!reachable || view.log_broken);
        let reported_by = |subject: &str| {
            let own = view.own_change_of(subject);
            move |order| match reachable {
                _ if any_denial => order <= view.started,
                true => order <= view.polled_up_to.max(own),
                false => order <= own || view.was_reported(order),
            }
        };
        let age = if any_denial { GRACE } else { answer_seen.answer_age };
        let before = || self.was_seen_before(replica, now, age);
        history.believable(reported_by(digest), before()).flatten().any(|key| {
            let tenant = &self.tenants[&key.tenant];
            let mut believable = tenant.believable(reported_by(&key.tenant), before());
            believable.any(|suspended| {
                self.possible_verdicts(view, key, *suspended, reads, now).contains(&answer_seen.verdict)
            })
        })
    }

    /// Returns the verdicts of one state of a key and its tenant, including revocations that a replica holds.
    fn possible_verdicts(
        &self,
        view: &ReplicaKnowledge,
        key: &KeyRow,
        suspended: bool,
        reads: bool,
        now: SimulatedTime,
    ) -> Vec<Verdict> {
        let either = |subject: &str, shows: bool| match view.retained_revocations.get(subject) {
            None => vec![shows],
            Some(retained) if retained.is_sure => vec![true],
            Some(_) => vec![shows, true],
        };
        let suspended = either(&key.tenant, suspended);
        let revoked = KeyRow { revoked: true, ..key.clone() };
        let disabled = KeyRow { disabled: true, ..key.clone() };
        let keys = match view.retained_revocations.get(&key.id) {
            None => vec![key.clone()],
            Some(retained) if retained.is_sure && retained.end == Some(KeyEnd::Disabled) => vec![disabled],
            Some(retained) if retained.is_sure => vec![revoked],
            Some(retained) => {
                let revoked = (retained.end == Some(KeyEnd::Revoked)).then_some(revoked);
                let disabled = retained.may_be_disabled.then_some(disabled);
                std::iter::once(key.clone()).chain(revoked).chain(disabled).collect()
            }
        };
        keys.iter()
            .flat_map(|key| suspended.iter().map(|suspended| key.verdict(*suspended, reads, now.wall)))
            .collect()
    }

    /// Returns whether a replica has loaded a key within the grace, and applied no change since that could
    /// have evicted it.
    fn has_cached(&self, replica: usize, digest: &str, now: SimulatedTime) -> bool {
        let view = &self.views[replica];
        let Some((read, at)) = view.read.get(digest) else { return false };
        let Some(key) = self.key(digest) else { return false };
        let touched = |subject: &str| self.touched.get(subject).copied().unwrap_or_default();
        let changed = touched(digest).max(touched(&key.tenant)).max(self.keys[digest].since());
        let slack =
            if self.visible_up_to(replica).is_some() { MAX_UNNOTICED_STALL * 2 } else { Duration::ZERO };
        now.monotonic + slack < *at + GRACE && *read > changed && *read > view.last_revalidation
    }
}
