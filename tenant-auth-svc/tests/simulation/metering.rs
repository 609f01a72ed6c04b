//! Usage and listings: acknowledged usage is counted once.

use std::{collections::HashMap, time::Duration};

use tenant_auth_proto::v1::{self, usage_service_client::UsageServiceClient};
use tenant_auth_svc::domain::{
    audit::AuditFilter,
    id::TenantId,
    page::{PageRequest, PageSize},
};
use tenant_auth_testkit::{HranaServer, Random};
use tonic_types::StatusExt as _;

use super::{
    changes::deadline,
    cluster::{REPLICAS, SimulatedCluster, TENANTS, number, text},
    replica::SeededFlaw,
    troubles::Trouble,
};

/// Transient failures, which a busy machine may cause.
const TRANSIENT_FAILURES: [&str; 4] =
    ["DATABASE_UNREACHABLE", "DATABASE_TIMED_OUT", "DATABASE_BUSY", "DATABASE_INVALID_RESPONSE"];

/// The requests sent, and those acknowledged.
#[derive(Debug, Default)]
pub(crate) struct UsageLedger(Vec<SentUsage>);

#[derive(Clone, Debug)]
struct SentUsage {
    id: String,
    tenant: &'static str,
    quantity: i64,
    is_acknowledged: bool,
}

impl UsageLedger {
    /// After a rollback, only the acknowledged requests that the database still holds count; the others may
    /// be sent again.
    pub(crate) fn forget_rolled_back(&mut self, server: &HranaServer) {
        let counted = counted_per_request(server);
        self.0.iter_mut().for_each(|sent| sent.is_acknowledged &= counted.contains_key(&sent.id));
    }
}

/// Returns what the database has counted for each request.
fn counted_per_request(server: &HranaServer) -> HashMap<String, i64> {
    let each = "SELECT request_id, coalesce((SELECT sum(quantity) FROM usage_events WHERE request = seq), 0) \
                FROM usage_requests";
    let rows = server.query(each).unwrap();
    rows.iter().map(|row| (text(&row[0]).unwrap(), number(&row[1]).unwrap())).collect()
}

impl SimulatedCluster {
    /// Records usage through a replica: a new request, or one that is not acknowledged yet.
    pub(crate) async fn record_usage(
        &mut self,
        replica: usize,
        random: &mut Random,
    ) -> Result<String, String> {
        let open: Vec<_> =
            (0..self.ledger.0.len()).filter(|at| !self.ledger.0[*at].is_acknowledged).collect();
        let at = if !open.is_empty() && random.is_chance(50) {
            *random.pick(&open)
        } else {
            let id = format!("usage-{}", self.ledger.0.len());
            let quantity = i64::try_from(random.below(1_000)).unwrap();
            let sent =
                SentUsage { id, tenant: random.pick::<&str>(&TENANTS), quantity, is_acknowledged: false };
            self.ledger.0.push(sent);
            self.ledger.0.len() - 1
        };
        self.send_usage(replica, at).await
    }

    async fn send_usage(&mut self, replica: usize, at: usize) -> Result<String, String> {
        let SentUsage { id, tenant, quantity, .. } = self.ledger.0[at].clone();
        let event = v1::UsageEvent {
            tenant_id: tenant.to_owned(),
            metric: "calls".to_owned(),
            quantity,
            ..Default::default()
        };
        let request = v1::RecordUsageRequest { request_id: id.clone(), events: vec![event] };
        let answer = UsageServiceClient::new(self.channels[replica].clone()).record_usage(request).await;
        self.mark_read_replica_behind();
        let what = format!("replica {replica} records {id}");
        match answer {
            Ok(answer) => {
                let answer = answer.into_inner();
                self.count("usage acknowledged");
                self.ledger.0[at].is_acknowledged = true;
                if let Some(Trouble::Disaster(_)) = self.trouble {
                    return Err(format!("{what} in a database that is not the known one"));
                }
                if self.flaw == SeededFlaw::LosesUsage && at % 5 == 4 {
                    let last =
                        "DELETE FROM usage_events WHERE request = (SELECT max(request) FROM usage_events)";
                    self.server.execute(last).unwrap();
                }
                match counted_per_request(&self.server).get(&id) {
                    Some(counted) if *counted == quantity && answer.accepted == 1 => Ok(what),
                    counted => Err(format!("{what}: {quantity} was acknowledged, and {counted:?} counted")),
                }
            }
            Err(status) => {
                self.count("usage refused");
                let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
                let passes = reason.as_ref().is_some_and(|reason| TRANSIENT_FAILURES.contains(&&**reason));
                if self.writes_work() && !passes {
                    return Err(format!("{what}: {status:?} although the database is healthy"));
                }
                if passes {
                    self.record_unanswered_change();
                }
                Ok(format!("{what}: {}", reason.unwrap_or_default()))
            }
        }
    }

    /// Compares the acknowledged usage with the counted usage.
    pub(crate) fn check_usage(&self) -> Result<(), String> {
        let counted = counted_per_request(&self.server);
        let mut totals = HashMap::<_, i64>::new();
        for sent in &self.ledger.0 {
            match counted.get(&sent.id) {
                Some(quantity) if *quantity == sent.quantity => {
                    *totals.entry(sent.tenant).or_default() += quantity
                }
                Some(quantity) => return Err(format!("{sent:?} counts as {quantity}")),
                None if sent.is_acknowledged => return Err(format!("{sent:?} is lost")),
                None => {}
            }
        }
        for tenant in TENANTS {
            let total =
                format!("SELECT coalesce(sum(quantity), 0) FROM usage_totals WHERE tenant_id = '{tenant}'");
            let total = number(&self.server.query(&total).unwrap()[0][0]).unwrap();
            let expected = totals.get(tenant).copied().unwrap_or_default();
            if total != expected {
                return Err(format!("{tenant} has consumed {expected}, and its total is {total}"));
            }
        }
        Ok(())
    }

    /// At the end of a simulation, every request sent is acknowledged and counted once.
    pub(crate) async fn finish_usage(&mut self) -> Result<(), String> {
        for at in 0..self.ledger.0.len() {
            let mut last_outcome = Vec::new();
            for replica in (0..REPLICAS).cycle().take(10) {
                if self.ledger.0[at].is_acknowledged {
                    break;
                }
                last_outcome.push(self.send_usage(replica, at).await?);
                if !self.ledger.0[at].is_acknowledged {
                    self.restart_if_wedged().await;
                    // Retries as callers do: while a lane's breaker is open, all its calls are rejected.
                    self.advance_time(Duration::from_secs(11)).await?;
                }
            }
            if !self.ledger.0[at].is_acknowledged {
                return Err(format!("{:?} is never acknowledged: {last_outcome:?}", self.ledger.0[at]));
            }
        }
        self.check_usage()
    }

    /// Lists a tenant's keys, its usage or the audit log, as an operator does.
    pub(crate) async fn list_something(
        &mut self,
        replica: usize,
        random: &mut Random,
    ) -> Result<String, String> {
        self.catch_up_read_replica_if_behind(replica).await;
        let tenant = *random.pick(&TENANTS);
        let id = TenantId::parse(tenant).unwrap();
        let admin = self.replicas[replica].admin();
        let (what, outcome) = match random.below(3) {
            0 => {
                let page = PageRequest { size: PageSize::new(10), after: None };
                let listed = admin.list_audit(AuditFilter::default(), page, deadline()).await;
                ("the audit log", listed.map(drop).map_err(|error| error.to_string()))
            }
            1 => {
                let request = v1::QueryUsageRequest {
                    tenant_id: tenant.to_owned(),
                    start_time: Some(prost_types::Timestamp { seconds: 0, nanos: 0 }),
                    end_time: Some(prost_types::Timestamp { seconds: 250_000_000_000, nanos: 0 }),
                    bucket: v1::UsageBucket::Month.into(),
                    ..Default::default()
                };
                let sums = UsageServiceClient::new(self.channels[replica].clone()).query_usage(request).await;
                ("usage", sums.map(drop).map_err(|status| format!("{status:?}")))
            }
            _ => {
                let page = PageRequest { size: PageSize::new(500), after: None };
                let listed = admin.list_keys(id, page, true, deadline()).await;
                let outcome = match listed {
                    Ok(page) => {
                        let mut listed: Vec<_> = page
                            .items
                            .iter()
                            .map(|key| (key.id.as_str().to_owned(), key.revoked_at.is_some()))
                            .collect();
                        let known = self.oracle.keys().filter(|key| key.tenant == tenant);
                        let mut known: Vec<_> = known.map(|key| (key.id.clone(), key.revoked)).collect();
                        listed.sort_unstable();
                        known.sort_unstable();
                        let is_current = self.read_replica_follows() || replica != REPLICAS - 1;
                        if self.listings_work() && is_current && listed != known {
                            return Err(format!(
                                "replica {replica} lists {listed:?}, and there are {known:?}"
                            ));
                        }
                        Ok(())
                    }
                    Err(error) => Err(error.to_string()),
                };
                ("keys", outcome)
            }
        };
        self.count(if outcome.is_ok() { "listed" } else { "not listed" });
        match outcome {
            Err(why) if self.listings_work() => {
                Err(format!("replica {replica} lists {what} of {tenant}: {why}"))
            }
            outcome => Ok(format!("replica {replica} lists {what} of {tenant}: {:?}", outcome.err())),
        }
    }
}
