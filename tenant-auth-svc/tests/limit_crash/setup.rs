//! Creates the tenants, their keys and their limits.

use std::{collections::BTreeSet, time::Duration};

use futures::{StreamExt as _, stream};
use tenant_auth_proto::v1::{self, admin_service_client::AdminServiceClient};
use tonic::{Status, transport::Channel};

use crate::{
    population::{Key, Tenant},
    process::WAIT_TIMEOUT,
};

const CONCURRENCY: usize = 16;

/// Fills in the ids of the keys.
pub(crate) async fn create(endpoints: &[String], tenants: Vec<Tenant>) -> Vec<Tenant> {
    let admins: Vec<_> = endpoints.iter().map(|endpoint| connect(endpoint)).collect();
    let created = stream::iter(tenants.into_iter().enumerate().map(|(number, tenant)| {
        let admin = admins[number % admins.len()].clone();
        create_tenant(admin, tenant)
    }));
    let tenants: Vec<_> = created.buffered(CONCURRENCY).collect().await;
    let mut plans = BTreeSet::new();
    let mut limits = Vec::new();
    for tenant in &tenants {
        let is_new_plan = plans.insert(&tenant.plan);
        let wanted = tenant.limits.iter().filter(|limit| limit.of_key.is_some() || is_new_plan);
        limits.extend(wanted.map(|limit| limit.to_limit(tenant)));
    }
    let set = stream::iter(limits.into_iter().enumerate().map(|(number, limit)| {
        let admin = admins[number % admins.len()].clone();
        let request = v1::SetLimitRequest { limit: Some(limit), expected_version: None };
        async move { until_answered(async || admin.clone().set_limit(request.clone()).await).await }
    }));
    set.buffered(CONCURRENCY).collect::<Vec<_>>().await;
    tenants
}

fn connect(endpoint: &str) -> AdminServiceClient<Channel> {
    AdminServiceClient::new(Channel::from_shared(endpoint.to_owned()).unwrap().connect_lazy())
}

async fn create_tenant(admin: AdminServiceClient<Channel>, mut tenant: Tenant) -> Tenant {
    let request = v1::CreateTenantRequest {
        tenant_id: tenant.id.clone(),
        name: "Tenant".to_owned(),
        plan: tenant.plan.clone(),
    };
    until_answered(async || admin.clone().create_tenant(request.clone()).await).await;
    for _ in 0..tenant.wanted_keys() {
        let request = v1::IssueKeyRequest { tenant_id: tenant.id.clone(), ..Default::default() };
        let issued = until_answered(async || admin.clone().issue_key(request.clone()).await).await;
        let id = issued.key.map(|key| key.key_id).unwrap_or_default();
        tenant.keys.push(Key { id, plaintext: issued.plaintext });
    }
    tenant
}

/// Calls the service until it answers: it may be starting.
async fn until_answered<T>(call: impl AsyncFn() -> Result<tonic::Response<T>, Status>) -> T {
    let mut last = None;
    let calling = async {
        loop {
            match call().await {
                Ok(response) => return response.into_inner(),
                Err(status) => last = Some(status),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let answer = tokio::time::timeout(WAIT_TIMEOUT, calling).await.ok();
    answer.unwrap_or_else(|| panic!("no answer, last {last:?}"))
}
