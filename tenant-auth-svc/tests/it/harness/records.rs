//! Records to store, and the audit entries of their changes.

use tenant_auth_svc::domain::{
    audit::AuditFilter,
    clock::UnixMillis,
    id::{KeyId, TenantId},
    key::{KeyHash, KeyToImport, NewKey},
    network::AllowedNetworks,
    page::{PageRequest, PageSize},
    scope::{Scope, ScopeSet},
    store::{Lane, Store},
    tenant::NewTenant,
    text::{KeyName, Plan, PrefixHint, TenantName},
};

use super::call;

pub(crate) fn new_tenant() -> NewTenant {
    NewTenant {
        id: TenantId::generate(),
        name: TenantName::parse("Müller & Söhne").unwrap(),
        plan: Plan::parse("pro").unwrap(),
    }
}

pub(crate) fn new_key(tenant: &TenantId, scopes: &[&str], expires_at: Option<UnixMillis>) -> NewKey {
    let scopes = scopes.iter().map(|scope| Scope::parse(scope).unwrap()).collect();
    NewKey {
        id: KeyId::generate(),
        tenant_id: tenant.clone(),
        hash: random_hash(),
        name: KeyName::parse("O'Brien's \"key\"").unwrap(),
        prefix_hint: PrefixHint::parse("ta_abcd").unwrap(),
        scopes: ScopeSet::new(scopes).unwrap(),
        allowed_networks: AllowedNetworks::EVERYWHERE,
        expires_at,
    }
}

pub(crate) fn to_import(key: NewKey) -> KeyToImport {
    KeyToImport { key, created_at: Some(UnixMillis(1_600_000_000_000)) }
}

pub(crate) fn random_hash() -> KeyHash {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).unwrap();
    KeyHash::from_bytes(bytes)
}

/// Returns the changes of a tenant and its keys, the latest first.
pub(crate) async fn audit_actions(store: &impl Store, tenant: &TenantId) -> Vec<String> {
    let filter = AuditFilter { tenant: Some(tenant.clone()), ..AuditFilter::default() };
    let page = PageRequest { size: PageSize::DEFAULT, after: None };
    let events = store.list_audit(call(Lane::Admin), &filter, &page).await.unwrap();
    events.items.into_iter().map(|event| event.action).collect()
}
