//! Messages that change single fields of tenants and keys, or delete a tenant.

use prost_types::FieldMask;
use tenant_auth_proto::v1;

use super::{
    admin::{parse_optional_timestamp, parse_tenant_id, parse_with_reason},
    fields::FieldValidator,
    leak::parse_leak_policy,
};
use crate::{
    domain::{
        admin::DeletionProgress,
        etag::Etag,
        id::{KeyId, TenantId},
        key::KeyUpdate,
        store::{Committed, UpdateConditions},
        tenant::{TenantDeletion, TenantUpdate},
        text::{KeyName, Plan, TenantName},
    },
    grpc::error::ApiError,
};

pub(in crate::grpc) fn parse_update_tenant(
    request: &v1::UpdateTenantRequest,
) -> Result<(TenantId, TenantUpdate, UpdateConditions), ApiError> {
    let mut fields = FieldValidator::new();
    let id = fields.check("tenant_id", TenantId::parse(&request.tenant_id));
    let mut update = TenantUpdate::default();
    for field in parse_mask(&mut fields, request.update_mask.as_ref(), &["name", "plan", "leak_policy"]) {
        match field {
            "name" => update.name = fields.check("name", TenantName::parse(&request.name)),
            "plan" => update.plan = fields.check("plan", Plan::parse(&request.plan)),
            _ => update.leak_policy = parse_leak_policy(&mut fields, request.leak_policy),
        }
    }
    let conditions = parse_conditions(&mut fields, &request.etag, &request.reason);
    match (id, conditions) {
        (Some(id), Some(conditions)) if fields.is_valid() => Ok((id, update, conditions)),
        _ => Err(fields.into_error()),
    }
}

pub(in crate::grpc) fn parse_update_key(
    request: &v1::UpdateKeyRequest,
) -> Result<(KeyId, KeyUpdate, UpdateConditions), ApiError> {
    const FIELDS: [&str; 5] = ["name", "scopes", "expires_at", "enabled", "allowed_networks"];
    let mut fields = FieldValidator::new();
    let id = fields.check("key_id", KeyId::parse(&request.key_id));
    let mut update = KeyUpdate::default();
    for field in parse_mask(&mut fields, request.update_mask.as_ref(), &FIELDS) {
        match field {
            "name" => update.name = fields.check("name", KeyName::parse(&request.name)),
            "scopes" => update.scopes = fields.parse_scopes("scopes", &request.scopes),
            "expires_at" => {
                update.expires_at = parse_optional_timestamp(&mut fields, "expires_at", request.expires_at);
            }
            "allowed_networks" => {
                update.allowed_networks =
                    fields.parse_networks("allowed_networks", &request.allowed_networks);
            }
            _ => update.enabled = Some(request.enabled),
        }
    }
    let conditions = parse_conditions(&mut fields, &request.etag, &request.reason);
    match (id, conditions) {
        (Some(id), Some(conditions)) if fields.is_valid() => Ok((id, update, conditions)),
        _ => Err(fields.into_error()),
    }
}

pub(in crate::grpc) fn parse_delete_tenant(
    request: &v1::DeleteTenantRequest,
) -> Result<TenantDeletion, ApiError> {
    let (id, reason) = parse_with_reason(parse_tenant_id(&request.tenant_id), &request.reason)?;
    Ok(TenantDeletion { id, reason, with_usage: request.delete_usage })
}

pub(in crate::grpc) fn delete_tenant_response(
    Committed { outcome: progress, revision }: Committed<DeletionProgress>,
) -> v1::DeleteTenantResponse {
    let number = |count| i64::try_from(count).unwrap_or(i64::MAX);
    v1::DeleteTenantResponse {
        complete: progress.is_complete,
        sessions_deleted: number(progress.deleted.sessions),
        keys_deleted: number(progress.deleted.keys),
        usage_deleted: number(progress.deleted.usage),
        revision: revision.0,
    }
}

/// Returns the fields that a mask names, each once.
fn parse_mask(
    fields: &mut FieldValidator,
    mask: Option<&FieldMask>,
    allowed: &[&'static str],
) -> Vec<&'static str> {
    let paths = mask.map_or(&[][..], |mask| &mask.paths);
    if paths.is_empty() {
        fields.add_violation("update_mask", format!("must name at least one of {}", allowed.join(", ")));
    }
    for (index, path) in paths.iter().enumerate() {
        if !allowed.contains(&path.as_str()) {
            let field = format!("update_mask.paths[{index}]");
            fields.add_violation(&field, format!("must be one of {}", allowed.join(", ")));
        }
    }
    allowed.iter().copied().filter(|field| paths.iter().any(|path| path == field)).collect()
}

fn parse_conditions(fields: &mut FieldValidator, etag: &str, reason: &str) -> Option<UpdateConditions> {
    let etag = match etag {
        "" => Some(None),
        etag => fields.check("etag", Etag::parse(etag)).map(Some),
    };
    let reason = fields.parse_optional_reason(reason);
    Some(UpdateConditions { etag: etag?, reason: reason? })
}
