//! Tenants.

use serde::Serialize;
use tenant_auth_client::proto::{self, TenantStatus};

use super::{filled, moment, or_empty};
use crate::{
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
            plan: filled(tenant.plan),
            status,
            suspend_reason: filled(tenant.suspend_reason),
            created_at: moment(tenant.created_at),
            updated_at: moment(tenant.updated_at),
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
            ("plan", or_empty(self.plan.as_ref())),
            ("status", self.status.to_owned()),
            ("reason", or_empty(self.suspend_reason.as_ref())),
            ("created", or_empty(self.created_at)),
            ("updated", or_empty(self.updated_at)),
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
            or_empty(self.plan.as_ref()),
            self.status.to_owned(),
            or_empty(self.created_at),
        ]
    }
}
