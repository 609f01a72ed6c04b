//! Changes of limits, of plans and of credits.

use tenant_auth_proto::v1::{
    self, admin_service_client::AdminServiceClient, limit::Rule, limit_subject::Subject, quota::Window,
};
use tenant_auth_testkit::Random;
use tonic::{Code, Status};

use super::NAMES;
use crate::cluster::{REPLICAS, SimulatedCluster, TENANTS};

/// The plans of tenants; the first one has no limits.
const PLANS: [&str; 3] = ["", "free", "pro"];
const POLICIES: [v1::OutagePolicy; 4] = [
    v1::OutagePolicy::Closed,
    v1::OutagePolicy::LocalShare,
    v1::OutagePolicy::LocalShare,
    v1::OutagePolicy::Open,
];

/// Draws the rule of a limit with a name.
fn random_rule(name: &str, random: &mut Random) -> Rule {
    let mut amount = |least: usize, more: usize| (least + random.below(more)) as i64;
    let hour = v1::CalendarWindow::Hour;
    match name {
        "balance" => {
            let refill = v1::CreditRefill { amount: amount(1, 20), every: hour.into(), max_balance: 0 };
            let initial = amount(10, 200);
            Rule::Credits(v1::Credits { initial, refill: (initial % 2 == 0).then_some(refill) })
        }
        "rate" => {
            let per = Some(prost_types::Duration { seconds: amount(1, 10), nanos: 0 });
            Rule::Rate(v1::Rate { amount: amount(1, 20), per, burst: amount(5, 60) })
        }
        "rolling" => {
            let window = Window::Rolling(prost_types::Duration { seconds: 16 * 60, nanos: 0 });
            Rule::Quota(v1::Quota { amount: amount(5, 150), window: Some(window) })
        }
        name => {
            let window = if name == "daily" { v1::CalendarWindow::Day } else { hour };
            let window = Some(Window::Calendar(window.into()));
            Rule::Quota(v1::Quota { amount: amount(5, 150), window })
        }
    }
}

impl SimulatedCluster {
    /// Sets limits of the plans and a tenant, before the first request.
    pub(crate) async fn set_first_limits(&mut self, random: &mut Random) -> Result<String, String> {
        for tenant in &TENANTS[1..] {
            self.change_plan(tenant, random);
        }
        let mut happened = Vec::new();
        for name in NAMES {
            happened.push(self.set_limit(0, name, random).await?);
        }
        Ok(happened.join("; "))
    }

    /// Changes something about limits.
    pub(crate) async fn change_limits(
        &mut self,
        replica: usize,
        random: &mut Random,
    ) -> Result<String, String> {
        if !self.limits_work() {
            return Ok("nothing".to_owned());
        }
        match random.below(10) {
            0..5 => {
                let name = *random.pick(&NAMES);
                self.set_limit(replica, name, random).await
            }
            5..7 => self.delete_limit(replica, random).await,
            7 => {
                let tenant = *random.pick(&TENANTS);
                Ok(self.change_plan(tenant, random))
            }
            _ => self.add_credits(replica, random).await,
        }
    }

    fn random_subject(&self, name: &str, random: &mut Random) -> Subject {
        if name.starts_with("key.") {
            let keys: Vec<_> = self.oracle.keys().map(|key| key.id.clone()).collect();
            return Subject::KeyId(if keys.is_empty() { String::new() } else { random.pick(&keys).clone() });
        }
        if random.is_chance(50) {
            Subject::TenantId((*random.pick(&TENANTS)).to_owned())
        } else {
            Subject::Plan((*random.pick(&PLANS[1..])).to_owned())
        }
    }

    async fn set_limit(&mut self, replica: usize, name: &str, random: &mut Random) -> Result<String, String> {
        let subject = self.random_subject(name, random);
        if matches!(&subject, Subject::KeyId(id) if id.is_empty()) {
            return Ok("nothing".to_owned());
        }
        let limit = v1::Limit {
            subject: Some(v1::LimitSubject { subject: Some(subject) }),
            name: name.to_owned(),
            metric: name.to_owned(),
            rule: Some(random_rule(name, random)),
            on_outage: (*random.pick(&POLICIES)).into(),
            shadow: random.is_chance(10),
            ..Default::default()
        };
        let what = format!("replica {replica} sets {:?} {:?}", limit.subject, limit.rule);
        let request = v1::SetLimitRequest { limit: Some(limit), expected_version: None };
        let channel = self.channels[replica].clone();
        let set =
            async || AdminServiceClient::new(channel.clone()).set_limit(request.clone()).await.map(drop);
        self.change_limit(&what, set).await?;
        self.count("a limit is set");
        Ok(what)
    }

    async fn delete_limit(&mut self, replica: usize, random: &mut Random) -> Result<String, String> {
        let name = *random.pick(&NAMES);
        let subject = Some(v1::LimitSubject { subject: Some(self.random_subject(name, random)) });
        let what = format!("replica {replica} deletes {name} of {subject:?}");
        let request = v1::DeleteLimitRequest { subject, name: name.to_owned() };
        let channel = self.channels[replica].clone();
        let delete =
            async || AdminServiceClient::new(channel.clone()).delete_limit(request.clone()).await.map(drop);
        self.change_limit(&what, delete).await?;
        Ok(what)
    }

    async fn add_credits(&mut self, replica: usize, random: &mut Random) -> Result<String, String> {
        let tenant = *random.pick(&TENANTS);
        self.limits.adjustments += 1;
        let amount = random.below(80) as i64 - 20;
        let request = v1::AddCreditsRequest {
            subject: Some(v1::LimitSubject { subject: Some(Subject::TenantId(tenant.to_owned())) }),
            name: "balance".to_owned(),
            amount: if amount == 0 { 1 } else { amount },
            adjustment_id: format!("adjustment-{}", self.limits.adjustments),
            reason: String::new(),
        };
        let what = format!("replica {replica} adds {amount} credits to {tenant}");
        self.limits.ledger.add_credits(&(tenant.to_owned(), "balance".to_owned()), request.amount);
        let channel = self.channels[replica].clone();
        let add = async || {
            let added = AdminServiceClient::new(channel.clone()).add_credits(request.clone()).await;
            added.map(|_| ())
        };
        self.change_limit(&what, add).await?;
        self.count("credits are added");
        Ok(what)
    }

    fn change_plan(&mut self, tenant: &str, random: &mut Random) -> String {
        let (plan, order) = (*random.pick(&PLANS), self.oracle.next_order());
        let change = format!("UPDATE tenants SET plan = '{plan}' WHERE id = '{tenant}'");
        self.server.execute(&change).unwrap();
        self.oracle.record_touch(order, tenant);
        self.record_database(order);
        format!("{tenant} changes to the plan {plan:?}")
    }

    /// Makes a change. On a busy machine it may time out, and has happened or has not.
    async fn change_limit(
        &mut self,
        what: &str,
        change: impl AsyncFn() -> Result<(), Status>,
    ) -> Result<(), String> {
        let order = self.oracle.next_order();
        let outcome = change().await;
        self.record_database(order);
        match outcome {
            Ok(()) => Ok(()),
            Err(status) if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) => {
                self.record_unanswered_change();
                Ok(())
            }
            // Nothing has such a limit; or the key was deleted.
            Err(status) if matches!(status.code(), Code::NotFound | Code::FailedPrecondition) => Ok(()),
            Err(status) if status.code() == Code::InvalidArgument && what.contains("KeyId(\"\")") => Ok(()),
            Err(status) => Err(format!("{what}: {status:?}")),
        }
    }

    /// Replaces a replica, which gives its leases back.
    pub(crate) async fn replace_gracefully(&mut self, replica: usize) -> String {
        if !self.limits_work() {
            return "nothing".to_owned();
        }
        self.until_loads_finish().await;
        let former = self.restart_silently(replica).await;
        former.stop().await;
        self.note_restart(replica).await;
        format!("replica {replica} of {REPLICAS} is replaced")
    }
}
