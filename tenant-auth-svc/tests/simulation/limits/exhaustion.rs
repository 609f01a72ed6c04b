//! Consumption of one limit at a time: until it is exhausted, and what is left of leases.

use tenant_auth_proto::v1::Verdict as ProtoVerdict;
use tenant_auth_testkit::Random;

use super::{NAMES, traffic::MAX_COST};
use crate::{
    cluster::{REPLICAS, SimulatedCluster},
    replica::Credential,
};

/// How often a limit is taken from at most until it is exhausted: more than the largest quota needs.
const MAX_TAKEN: usize = 20;
/// How many undecided requests are enough.
const MAX_UNDECIDED: usize = 2;

impl SimulatedCluster {
    /// Returns the first key that is valid in the database, or else the first one.
    pub(crate) fn first_usable(&self, keys: &[Credential]) -> Credential {
        let now = self.now().wall;
        let is_usable = |key: &&Credential| {
            self.oracle.key(&key.digest).is_some_and(|row| {
                let is_current = row.expires_at.is_none_or(|at| at > now);
                is_current
                    && row.admits_caller
                    && row.end().is_none()
                    && !self.oracle.is_suspended(&row.tenant)
            })
        };
        keys.iter().find(is_usable).unwrap_or(&keys[0]).clone()
    }

    /// Takes from one limit, on all replicas in turn, until none of them admits more.
    pub(crate) async fn exhaust_a_limit(
        &mut self,
        key: &Credential,
        random: &mut Random,
    ) -> Result<String, String> {
        if !self.limits_work() {
            return Ok("nothing".to_owned());
        }
        let costs = vec![((*random.pick(&NAMES)).to_owned(), MAX_COST)];
        let (mut admitted, mut denied) = (0, 0);
        while denied < REPLICAS && admitted < MAX_TAKEN {
            let replica = (admitted + denied) % REPLICAS;
            let decided = self.consume(replica, key, &costs, "").await;
            let decided = decided.map_err(|why| format!("replica {replica} exhausts {costs:?}: {why}"))?;
            match decided.1 {
                Some((response, _)) if response.limits.is_empty() => break,
                Some((response, _)) if response.verdict() == ProtoVerdict::Valid => admitted += 1,
                Some(_) | None => denied += 1,
            }
        }
        Ok(format!("{} exhausts {costs:?}: {admitted} admitted, {denied} denied", key.plaintext))
    }

    /// Takes one of everything on the first replica.
    pub(crate) async fn take_from_each_limit(&mut self, key: &Credential) -> Result<String, String> {
        let (mut outcomes, mut undecided) = (Vec::new(), 0);
        for name in NAMES {
            // Each waits for a while.
            if undecided == MAX_UNDECIDED {
                break;
            }
            let decided = self.consume(0, key, &[(name.to_owned(), 1)], "").await;
            let decided = decided.map_err(|why| format!("replica 0 takes one {name}: {why}"))?;
            undecided += usize::from(decided.1.is_none());
            outcomes.push(format!("{name} {}", decided.0));
        }
        Ok(format!("{} takes one each: {}", key.plaintext, outcomes.join(", ")))
    }
}
