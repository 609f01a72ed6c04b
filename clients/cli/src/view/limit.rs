//! The views of limits.

use std::time::Duration;

use serde::Serialize;
use tenant_auth_client::proto::{self, OutagePolicy, limit::Rule, limit_subject::Subject};

use super::{to_moment, to_text};
use crate::{
    args::limit_rule,
    output::{self, Item, View},
    time::Moment,
};

#[derive(Debug, Serialize)]
pub(crate) struct LimitView {
    plan: Option<String>,
    tenant_id: Option<String>,
    key_id: Option<String>,
    pub(super) name: String,
    pub(super) metric: String,
    #[serde(flatten)]
    rule: Option<RuleView>,
    /// The rule in one line.
    #[serde(skip)]
    pub(super) rule_text: String,
    on_outage: &'static str,
    pub(super) shadow: bool,
    version: i64,
    updated_at: Option<Moment>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum RuleView {
    Quota { amount: i64, window: String },
    Credits { initial: i64, refill: Option<RefillView> },
    Rate { amount: i64, per_ms: u64, burst: i64 },
}

#[derive(Debug, Serialize)]
struct RefillView {
    amount: i64,
    every: &'static str,
    /// Absent for no maximum.
    max_balance: Option<i64>,
}

impl RuleView {
    fn new(rule: &Rule) -> Self {
        match rule {
            Rule::Quota(quota) => {
                Self::Quota { amount: quota.amount, window: limit_rule::format_window(quota) }
            }
            Rule::Credits(credits) => Self::Credits {
                initial: credits.initial,
                refill: credits.refill.as_ref().map(|refill| RefillView {
                    amount: refill.amount,
                    every: limit_rule::format_every(refill),
                    max_balance: Some(refill.max_balance).filter(|max| *max > 0),
                }),
            },
            Rule::Rate(rate) => {
                let per: Duration = rate.per.and_then(|per| per.try_into().ok()).unwrap_or_default();
                Self::Rate {
                    amount: rate.amount,
                    per_ms: u64::try_from(per.as_millis()).unwrap_or(u64::MAX),
                    burst: rate.burst,
                }
            }
        }
    }
}

impl LimitView {
    pub(crate) fn new(limit: proto::Limit) -> Self {
        let on_outage = match limit.on_outage() {
            OutagePolicy::Open => "open",
            OutagePolicy::LocalShare => "local-share",
            OutagePolicy::Closed | OutagePolicy::Unspecified => "closed",
        };
        let (mut plan, mut tenant_id, mut key_id) = (None, None, None);
        match limit.subject.and_then(|subject| subject.subject) {
            Some(Subject::Plan(name)) => plan = Some(name),
            Some(Subject::TenantId(id)) => tenant_id = Some(id),
            Some(Subject::KeyId(id)) => key_id = Some(id),
            None => {}
        }
        Self {
            plan,
            tenant_id,
            key_id,
            name: limit.name,
            metric: limit.metric,
            rule: limit.rule.as_ref().map(RuleView::new),
            rule_text: limit.rule.as_ref().map_or_else(String::new, limit_rule::format_rule),
            on_outage,
            shadow: limit.shadow,
            version: limit.version,
            updated_at: to_moment(limit.updated_at),
        }
    }

    /// Returns whose limit it is.
    pub(super) fn subject(&self) -> String {
        let plan = self.plan.as_ref().map(|plan| format!("plan {plan}"));
        let tenant = self.tenant_id.as_ref().map(|id| format!("tenant {id}"));
        to_text(plan.or(tenant).or_else(|| self.key_id.as_ref().map(|id| format!("key {id}"))))
    }

    fn shadow_text(&self) -> String {
        if self.shadow { "yes".to_owned() } else { String::new() }
    }
}

impl View for LimitView {
    fn text(&self) -> String {
        output::details(&[
            ("limit", self.name.clone()),
            ("of", self.subject()),
            ("metric", self.metric.clone()),
            ("rule", self.rule_text.clone()),
            ("on outage", self.on_outage.to_owned()),
            ("shadow", self.shadow_text()),
            ("version", self.version.to_string()),
            ("updated", to_text(self.updated_at)),
        ])
    }
}

impl Item for LimitView {
    const LIST: &'static str = "limits";
    const HEADER: &'static [&'static str] =
        &["OF", "LIMIT", "METRIC", "RULE", "ON OUTAGE", "SHADOW", "UPDATED"];

    fn row(&self) -> Vec<String> {
        vec![
            self.subject(),
            self.name.clone(),
            self.metric.clone(),
            self.rule_text.clone(),
            self.on_outage.to_owned(),
            self.shadow_text(),
            to_text(self.updated_at),
        ]
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct DeletedLimitView {
    pub(crate) name: String,
    pub(crate) existed: bool,
}

impl View for DeletedLimitView {
    fn text(&self) -> String {
        let outcome = if self.existed { "is deleted" } else { "did not exist" };
        format!("{} {outcome}", self.name)
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct AddedCreditsView {
    name: String,
    credited: i64,
    remaining: i64,
    already_added: bool,
}

impl AddedCreditsView {
    pub(crate) fn new(name: String, added: &proto::AddCreditsResponse) -> Self {
        let (credited, remaining) = (added.credited, added.remaining);
        Self { name, credited, remaining, already_added: added.already_added }
    }
}

impl View for AddedCreditsView {
    fn text(&self) -> String {
        output::details(&[
            ("limit", self.name.clone()),
            ("credited", self.credited.to_string()),
            ("remaining", self.remaining.to_string()),
        ])
    }
}
