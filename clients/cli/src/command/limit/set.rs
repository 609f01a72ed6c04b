//! `tenantctl limit set`

use clap::{Args, ValueEnum};
use tenant_auth_client::proto;

use super::super::{
    Context,
    wait::{self, Wait},
};
use crate::{
    args::{LimitRule, LimitSubject},
    exit::Exit,
    failure::{Failure, FieldNames},
    view::LimitView,
};

#[derive(Debug, Args)]
pub(crate) struct Set {
    #[command(flatten)]
    subject: LimitSubject,

    /// Name of the limit, unique for its subject: a lower-case name such as requests.daily
    name: String,

    /// The metric that it limits: a lower-case name such as requests
    #[arg(long, value_name = "NAME")]
    metric: String,

    #[command(flatten)]
    rule: LimitRule,

    /// What happens when the database does not respond
    #[arg(long, value_enum, default_value_t = OnOutage::Closed)]
    on_outage: OnOutage,

    /// Count and report the limit, but never deny a request
    #[arg(long)]
    shadow: bool,

    /// Set the limit only if this is still its version, or 0 if it must not exist yet; see `tenantctl --json limit get`
    #[arg(long, value_name = "N")]
    if_version: Option<i64>,

    #[command(flatten)]
    wait: Wait,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnOutage {
    /// Admit: the limit can be exceeded during the outage
    Open,
    /// Each replica holds a larger part in advance; when it is spent, as closed
    LocalShare,
    /// Do not decide: requests fail
    Closed,
}

impl From<OnOutage> for proto::OutagePolicy {
    fn from(policy: OnOutage) -> Self {
        match policy {
            OnOutage::Open => Self::Open,
            OnOutage::LocalShare => Self::LocalShare,
            OnOutage::Closed => Self::Closed,
        }
    }
}

const FIELD_NAMES: FieldNames = &[
    ("limit.subject.plan", "--plan"),
    ("limit.subject.tenant_id", "--tenant"),
    ("limit.subject.key_id", "--key-id"),
    ("limit.name", "NAME"),
    ("limit.metric", "--metric"),
    ("limit.quota.amount", "--quota"),
    ("limit.quota.rolling", "--quota"),
    ("limit.rate.amount", "--rate"),
    ("limit.rate.per", "--rate"),
    ("limit.rate.burst", "--burst"),
    ("limit.credits.initial", "--credits"),
    ("limit.credits.refill.amount", "--refill"),
    ("limit.credits.refill.max_balance", "--max-balance"),
    ("expected_version", "--if-version"),
];

pub(super) async fn run(context: &Context, command: Set) -> Result<Exit, Failure> {
    let limit = proto::Limit {
        subject: Some(command.subject.to_message()),
        name: command.name,
        metric: command.metric,
        rule: command.rule.to_message(),
        on_outage: proto::OutagePolicy::from(command.on_outage).into(),
        shadow: command.shadow,
        ..Default::default()
    };
    let request = proto::SetLimitRequest { limit: Some(limit), expected_version: command.if_version };
    let set = context.client()?.admin().set_limit(request).await;
    let set = set.map_err(Failure::from_service(FIELD_NAMES))?;
    wait::show(context, &command.wait, LimitView::new(set.limit.unwrap_or_default()), set.revision).await
}
