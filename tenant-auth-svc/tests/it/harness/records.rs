//! Records to store.

use tenant_auth_svc::domain::{
    clock::UnixMillis,
    id::{KeyId, TenantId},
    key::{KeyHash, KeyToImport, NewKey},
    network::AllowedNetworks,
    scope::{Scope, ScopeSet},
    tenant::NewTenant,
    text::{KeyName, Plan, PrefixHint, TenantName},
};

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
