//! Lists of tenants and of keys.

use std::fmt::Display;

use tenant_auth_proto::v1;

use super::{
    admin::{api_key_message, tenant_message},
    fields::{FieldValidator, ParseResult, page_token},
};
use crate::domain::{
    id::{KeyId, TenantId},
    key::{ApiKey, KeyPrefixCursor},
    page::{Page, PageRequest},
    store::NameCursor,
    tenant::Tenant,
    text::{NamePrefix, PrefixHint},
};

/// Which tenants to list.
pub(in crate::grpc) enum TenantListing {
    /// All tenants.
    All(PageRequest<TenantId>),
    /// The tenants whose names begin with a text.
    ByName(NamePrefix, PageRequest<NameCursor<TenantId>>),
}

pub(in crate::grpc) fn parse_list_tenants(request: &v1::ListTenantsRequest) -> ParseResult<TenantListing> {
    let mut fields = FieldValidator::new();
    let (size, token) = (request.page_size, &request.page_token);
    let listing = if request.name_prefix.is_empty() {
        fields.parse_page(size, token, |text| TenantId::parse(text).ok()).map(TenantListing::All)
    } else {
        let prefix = fields.check("name_prefix", NamePrefix::parse(&request.name_prefix));
        let page = fields.parse_page(size, token, |text| NameCursor::parse(text, TenantId::parse));
        prefix.zip(page).map(|(prefix, page)| TenantListing::ByName(prefix, page))
    };
    listing.ok_or_else(|| fields.into_error())
}

pub(in crate::grpc) fn list_tenants_response(page: Page<Tenant, impl Display>) -> v1::ListTenantsResponse {
    v1::ListTenantsResponse {
        next_page_token: page_token(page.next),
        tenants: page.items.into_iter().map(tenant_message).collect(),
    }
}

/// Which keys to list.
pub(in crate::grpc) enum KeyListing {
    /// The keys of a tenant.
    OfTenant(TenantId, PageRequest<KeyId>),
    /// The keys that may begin with a prefix, of one tenant or of all.
    ByPrefix((PrefixHint, Option<TenantId>), PageRequest<KeyPrefixCursor>),
    /// The keys whose names begin with a text, of one tenant or of all.
    ByName((NamePrefix, Option<TenantId>), PageRequest<NameCursor<KeyId>>),
}

pub(in crate::grpc) fn parse_list_keys(request: &v1::ListKeysRequest) -> ParseResult<KeyListing> {
    let mut fields = FieldValidator::new();
    let (size, token) = (request.page_size, &request.page_token);
    let tenant = match &*request.tenant_id {
        "" => Some(None),
        id => fields.check("tenant_id", TenantId::parse(id)).map(Some),
    };
    let listing = match (&*request.prefix, &*request.name_prefix) {
        ("", "") => {
            if request.tenant_id.is_empty() {
                let message = "must not be empty if prefix and name_prefix are empty: set a tenant, a prefix or the \
                               beginning of a name";
                fields.add_violation("tenant_id", message);
            }
            let page = fields.parse_page(size, token, |text| KeyId::parse(text).ok());
            tenant.flatten().zip(page).map(|(tenant, page)| KeyListing::OfTenant(tenant, page))
        }
        (prefix, "") => {
            let prefix = fields.check("prefix", PrefixHint::parse(prefix));
            let page = fields.parse_page(size, token, KeyPrefixCursor::parse);
            prefix.zip(tenant).zip(page).map(|(of, page)| KeyListing::ByPrefix(of, page))
        }
        ("", name) => {
            let prefix = fields.check("name_prefix", NamePrefix::parse(name));
            let page = fields.parse_page(size, token, |text| NameCursor::parse(text, KeyId::parse));
            prefix.zip(tenant).zip(page).map(|(of, page)| KeyListing::ByName(of, page))
        }
        (_, _) => {
            fields.add_violation("name_prefix", "must be empty if prefix is set");
            None
        }
    };
    listing.ok_or_else(|| fields.into_error())
}

pub(in crate::grpc) fn list_keys_response(page: Page<ApiKey, impl Display>) -> v1::ListKeysResponse {
    v1::ListKeysResponse {
        next_page_token: page_token(page.next),
        keys: page.items.into_iter().map(api_key_message).collect(),
    }
}
