//! Tenants.

use serde::Serialize;
use tenant_auth_client::proto::{self, TenantStatus};

use super::{filled, moment, or_empty, rest};
use crate::{
    output::{self, View},
    page::Listing,
    time::Moment,
};

#[derive(Debug, Serialize)]
pub(crate) struct TenantView {
    tenant_id: String,
    name: String,
    plan: Option<String>,
    status: &'static str,
    suspend_reason: Option<String>,
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

#[derive(Debug, Serialize)]
pub(crate) struct TenantsView {
    tenants: Vec<TenantView>,
    more: bool,
}

impl TenantsView {
    pub(crate) fn new(listing: Listing<proto::Tenant>) -> Self {
        let tenants = listing.items.into_iter().map(TenantView::new);
        Self { tenants: tenants.collect(), more: listing.more }
    }
}

impl View for TenantsView {
    fn text(&self) -> String {
        let row = |tenant: &TenantView| {
            vec![
                tenant.tenant_id.clone(),
                tenant.name.clone(),
                or_empty(tenant.plan.as_ref()),
                tenant.status.to_owned(),
                or_empty(tenant.created_at),
            ]
        };
        let header = ["TENANT", "NAME", "PLAN", "STATUS", "CREATED"];
        output::list(&header, self.tenants.iter().map(row))
    }

    fn note(&self) -> Option<&'static str> {
        rest(self.more)
    }
}
