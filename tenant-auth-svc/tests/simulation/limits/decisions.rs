//! Judges the decisions of limits.

use tenant_auth_proto::v1::{self, DecidedBy, Verdict};

use super::ledger::{CounterId, LimitRow};
use crate::{cluster::SimulatedCluster, troubles::Trouble};

/// An amount that was admitted.
#[derive(Clone, Debug)]
pub(crate) struct Admitted {
    pub(crate) id: CounterId,
    pub(crate) window: i64,
    pub(crate) amount: i64,
}

/// What was decided, and for whom.
pub(crate) struct Decided<'a> {
    pub(crate) replica: usize,
    pub(crate) key: &'a v1::ValidateKeyResponse,
    pub(crate) costs: &'a [(String, i64)],
    pub(crate) verdict: Verdict,
    pub(crate) limits: &'a [v1::LimitDecision],
    /// How many exchanges of the replica had failed before the request.
    pub(crate) failed_before: u64,
}

/// What counts a limit for a key.
pub(crate) fn counter_of(key: &v1::ValidateKeyResponse, name: &str) -> CounterId {
    let tenant = key.tenant_id.clone();
    let holder = if name.starts_with("key.") { format!("{tenant}/{}", key.key_id) } else { tenant };
    (holder, name.to_owned())
}

impl SimulatedCluster {
    /// Checks a decision about a valid key. Returns what was admitted.
    pub(crate) async fn judge_decision(&mut self, decided: Decided<'_>) -> Result<Vec<Admitted>, String> {
        self.record_free_amounts();
        self.judge_provenance(&decided)?;
        let mut admitted = Vec::new();
        for (name, cost) in decided.costs {
            let id = counter_of(decided.key, name);
            let (oracle, replica) = (&self.oracle, decided.replica);
            let believed = self.limits.ledger.believable(&id, |order| oracle.was_reported(replica, order));
            let limit = decided.limits.iter().find(|limit| limit.name == *name);
            self.judge_presence(&id, limit, &believed)?;
            let Some(limit) = limit else { continue };
            if limit.exceeded && !limit.shadow {
                self.judge_denial(&id, *cost, &believed, decided.verdict)?;
            }
            if decided.verdict == Verdict::Valid && !limit.exceeded {
                let by_policy = limit.decided_by() == DecidedBy::OutagePolicy;
                let permits = |limit: &LimitRow| limit.is_shadow || limit.on_outage == "open";
                // In a disaster, a limit may be read from the other database before the replica distrusts it.
                let is_disaster = matches!(self.trouble, Some(Trouble::Disaster(_)));
                if by_policy && !is_disaster && !believed.iter().flatten().any(permits) {
                    return Err(format!("{id:?} was admitted without a check, and no policy permits it"));
                }
                if by_policy {
                    self.limits.ledger.add_uncertain(&id, *cost);
                } else {
                    admitted.extend(self.admit(&id, limit, (*cost, &believed[..]), decided.replica).await?);
                }
            }
        }
        let denies = |limit: &&v1::LimitDecision| limit.exceeded && !limit.shadow;
        match (decided.verdict, decided.limits.iter().find(denies)) {
            (Verdict::Valid, Some(limit)) => Err(format!("admitted although {} is exceeded", limit.name)),
            (Verdict::QuotaExceeded | Verdict::RateLimited, None) => Err("denied by no limit".to_owned()),
            (Verdict::Valid | Verdict::QuotaExceeded | Verdict::RateLimited, _) => Ok(admitted),
            (verdict, _) => Err(format!("limits decide {verdict:?}")),
        }
    }

    /// Only while the database does not respond, a decision says so.
    fn judge_provenance(&mut self, decided: &Decided<'_>) -> Result<(), String> {
        let failed = self.replicas[decided.replica].limits().counts().failed_exchanges();
        // During a fault, a caller may have no time left before the exchange has failed.
        let must_have_failed = self.limits_work();
        let known = &mut self.limits.known_failures[decided.replica];
        for limit in decided.limits {
            match limit.decided_by() {
                DecidedBy::LocalShare | DecidedBy::OutagePolicy if must_have_failed && failed == *known => {
                    return Err(format!(
                        "{limit:?} says that the database does not respond, and no exchange has failed"
                    ));
                }
                DecidedBy::LocalShare | DecidedBy::OutagePolicy => {}
                DecidedBy::Lease | DecidedBy::Database => *known = decided.failed_before,
                DecidedBy::Unspecified => return Err(format!("{limit:?} does not say where it was decided")),
            }
        }
        for limit in decided.limits {
            let verdict = decided.verdict.as_str_name();
            self.count(&format!("limit {} {verdict}", limit.decided_by().as_str_name()));
        }
        Ok(())
    }

    /// A limit that applies is in the decision, and no other one.
    fn judge_presence(
        &self,
        id: &CounterId,
        limit: Option<&v1::LimitDecision>,
        believed: &[Option<LimitRow>],
    ) -> Result<(), String> {
        if let Some(Trouble::Disaster(_)) = self.trouble {
            return Ok(());
        }
        match limit {
            None if believed.iter().all(Option::is_some) => {
                Err(format!("ignores the limit {id:?}: {believed:?}"))
            }
            Some(limit) if believed.iter().all(Option::is_none) => {
                Err(format!("applies {limit:?} to {id:?}, which does not exist"))
            }
            None | Some(_) => Ok(()),
        }
    }

    fn judge_denial(
        &mut self,
        id: &CounterId,
        cost: i64,
        believed: &[Option<LimitRow>],
        verdict: Verdict,
    ) -> Result<(), String> {
        let is_rate = believed.iter().flatten().any(|limit| limit.kind == "rate");
        if verdict == Verdict::RateLimited && !is_rate {
            return Err(format!("{id:?} is no rate, and the verdict is {verdict:?}"));
        }
        if let Some(Trouble::Disaster(_)) = self.trouble {
            return Ok(());
        }
        match self.reason_of_denial(id, cost, believed) {
            Some(_) => {
                self.count(if is_rate { "a rate denies" } else { "a quota denies" });
                Ok(())
            }
            None => Err(format!("{cost} of {id:?} is denied without a reason: {believed:?}")),
        }
    }

    async fn admit(
        &mut self,
        id: &CounterId,
        limit: &v1::LimitDecision,
        (amount, believed): (i64, &[Option<LimitRow>]),
        replica: usize,
    ) -> Result<Option<Admitted>, String> {
        let now = self.now();
        let window =
            limit.window_start.map_or(0, |start| start.seconds * 1_000 + i64::from(start.nanos) / 1_000_000);
        let has_ended = |row: &LimitRow| {
            row.kind != "rate" && row.kind != "credits" && row.window_end(window) <= now.wall
        };
        if limit.window_start.is_some()
            && believed.iter().flatten().all(has_ended)
            && believed.iter().any(Option::is_some)
        {
            return Err(format!("{id:?} is taken from the window {window}, which ended before {}", now.wall));
        }
        let oracle = &self.oracle;
        let is_counted = self.limits.ledger.is_counted(id, |order| oracle.was_reported(replica, order));
        if !is_counted || matches!(self.trouble, Some(Trouble::Disaster(_))) {
            self.limits.ledger.add_uncertain(id, amount);
            return Ok(None);
        }
        self.limits.ledger.admit(id, (window, amount), now.monotonic, believed)?;
        self.check_counted(id, window).await?;
        Ok(Some(Admitted { id: id.clone(), window, amount }))
    }
}
