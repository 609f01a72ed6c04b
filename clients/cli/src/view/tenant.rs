//! The view of a tenant.

use serde::Serialize;
use tenant_auth_client::proto::{self, TenantStatus};

use super::{non_empty, to_moment, to_text};
use crate::{
    args::leak_policy,
    output::{self, Item, View},
    time::Moment,
};

#[derive(Debug, Serialize)]
pub(crate) struct TenantView {
    tenant_id: String,
    pub(super) name: String,
    plan: Option<String>,
    pub(super) status: &'static str,
    pub(super) suspend_reason: Option<String>,
    created_at: Option<Moment>,
    updated_at: Option<Moment>,
    /// `default` for the policy of the service.
    leak_policy: String,
    etag: String,
}

impl TenantView {
    pub(crate) fn new(tenant: proto::Tenant) -> Self {
        let status = match tenant.status() {
            TenantStatus::Active => "active",
            TenantStatus::Suspended => "suspended",
            TenantStatus::Unspecified => "unknown",
        };
        Self {
            tenant_id: tenant.tenant_id,
            name: tenant.name,
            plan: non_empty(tenant.plan),
            status,
            suspend_reason: non_empty(tenant.suspend_reason),
            created_at: to_moment(tenant.created_at),
            updated_at: to_moment(tenant.updated_at),
            leak_policy: leak_policy::format(tenant.leak_policy.as_ref()),
            etag: tenant.etag,
        }
    }
}

impl TenantView {
    pub(super) fn is_suspended(&self) -> bool {
        self.status == "suspended"
    }
}

impl View for TenantView {
    fn text(&self) -> String {
        output::details(&[
            ("tenant", self.tenant_id.clone()),
            ("name", self.name.clone()),
            ("plan", to_text(self.plan.as_ref())),
            ("status", self.status.to_owned()),
            ("reason", to_text(self.suspend_reason.as_ref())),
            ("created", to_text(self.created_at)),
            ("updated", to_text(self.updated_at)),
            ("leaks", self.leak_policy.clone()),
        ])
    }
}

impl Item for TenantView {
    const LIST: &'static str = "tenants";
    const HEADER: &'static [&'static str] = &["TENANT", "NAME", "PLAN", "STATUS", "CREATED"];

    fn row(&self) -> Vec<String> {
        vec![
            self.tenant_id.clone(),
            self.name.clone(),
            to_text(self.plan.as_ref()),
            self.status.to_owned(),
            to_text(self.created_at),
        ]
    }
}
