//! Whose limits a command is about.

use clap::Args;
use tenant_auth_client::{
    LimitOwner,
    proto::{self, limit_subject::Subject},
};

#[derive(Clone, Debug, Args)]
#[group(id = "subject", required = true, multiple = false)]
pub(crate) struct LimitSubject {
    /// The name of a plan: the limit applies to each tenant with it
    #[arg(long, value_name = "NAME")]
    plan: Option<String>,

    /// Id of a tenant: replaces the limit of its plan with the same name
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,

    /// Public id of a key: replaces the limit of its tenant or plan with the same name, for this key
    #[arg(long, value_name = "ID")]
    key_id: Option<String>,
}

#[derive(Clone, Debug, Args)]
#[group(id = "listed_subject", multiple = false)]
pub(crate) struct ListedSubject {
    /// Only limits of this plan
    #[arg(long, value_name = "NAME")]
    plan: Option<String>,

    /// Only limits of this tenant itself
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,

    /// Only limits of this key itself
    #[arg(long, value_name = "ID")]
    key_id: Option<String>,
}

#[derive(Clone, Debug, Args)]
#[group(id = "holder", required = true, multiple = false)]
pub(crate) struct LimitHolder {
    /// Id of a tenant: the limits of the tenant and of its plan
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,

    /// Public id of a key: its limits, and those of its tenant and plan
    #[arg(long, value_name = "ID")]
    key_id: Option<String>,
}

impl LimitSubject {
    pub(crate) fn to_message(&self) -> proto::LimitSubject {
        message(self.plan.as_ref(), self.tenant.as_ref(), self.key_id.as_ref())
    }
}

impl ListedSubject {
    /// Returns the subject; `None` for all.
    pub(crate) fn to_message(&self) -> Option<proto::LimitSubject> {
        let message = message(self.plan.as_ref(), self.tenant.as_ref(), self.key_id.as_ref());
        message.subject.is_some().then_some(message)
    }
}

impl LimitHolder {
    pub(crate) fn to_message(&self) -> proto::LimitSubject {
        message(None, self.tenant.as_ref(), self.key_id.as_ref())
    }

    /// Returns whose limits to read.
    pub(crate) fn owner(&self) -> LimitOwner<'_> {
        match (&self.tenant, &self.key_id) {
            (Some(id), _) => LimitOwner::Tenant(id),
            // One of the two is required.
            (None, id) => LimitOwner::Key(id.as_deref().unwrap_or_default()),
        }
    }
}

fn message(plan: Option<&String>, tenant: Option<&String>, key: Option<&String>) -> proto::LimitSubject {
    let plan = plan.cloned().map(Subject::Plan);
    let tenant = tenant.cloned().map(Subject::TenantId);
    proto::LimitSubject { subject: plan.or(tenant).or(key.cloned().map(Subject::KeyId)) }
}
