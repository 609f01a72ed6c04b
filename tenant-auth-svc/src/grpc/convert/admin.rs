//! Messages of `AdminService`.

use std::time::Duration;

use prost_types::Timestamp;
use tenant_auth_proto::v1;

use super::{
    entries::{EntryErrors, ParsedEntries},
    fields::{FieldValidator, ParseResult},
    leak::leak_policy_message,
    time::{parse_duration, parse_timestamp, timestamp},
    validation::{network_texts, proto_verdict, scope_names},
};
use crate::{
    domain::{
        admin::{AdminError, KeyState, KeyToIssue},
        clock::UnixMillis,
        id::{KeyId, TenantId},
        key::{ApiKey, ImportOutcome, KeyHash, KeyToImport, NewKey, SuccessorExpiry, key_text},
        store::Committed,
        tenant::{Tenant, TenantStatus},
        text::{KeyName, Plan, PrefixHint, Reason, TenantName},
    },
    grpc::{error::ApiError, status},
};

/// The maximum number of keys in one import.
const MAX_IMPORT_KEYS: usize = 500;

pub(in crate::grpc) fn parse_create_tenant(
    request: &v1::CreateTenantRequest,
) -> ParseResult<(Option<TenantId>, TenantName, Plan)> {
    let mut fields = FieldValidator::new();
    let id = match request.tenant_id.as_str() {
        "" => Some(None),
        id => fields.check("tenant_id", TenantId::parse(id)).map(Some),
    };
    let name = fields.check("name", TenantName::parse(&request.name));
    let plan = fields.check("plan", Plan::parse(&request.plan));
    match (id, name, plan) {
        (Some(id), Some(name), Some(plan)) => Ok((id, name, plan)),
        _ => Err(fields.into_error()),
    }
}

pub(in crate::grpc) fn parse_tenant_id(tenant_id: &str) -> ParseResult<TenantId> {
    let mut fields = FieldValidator::new();
    fields.check("tenant_id", TenantId::parse(tenant_id)).ok_or_else(|| fields.into_error())
}

pub(in crate::grpc) fn parse_key_id(key_id: &str) -> ParseResult<KeyId> {
    let mut fields = FieldValidator::new();
    fields.check("key_id", KeyId::parse(key_id)).ok_or_else(|| fields.into_error())
}

pub(in crate::grpc) fn parse_resume_tenant(
    request: &v1::ResumeTenantRequest,
) -> ParseResult<(TenantId, Option<Reason>)> {
    let mut fields = FieldValidator::new();
    let id = fields.check("tenant_id", TenantId::parse(&request.tenant_id));
    let reason = fields.parse_optional_reason(&request.reason);
    id.zip(reason).ok_or_else(|| fields.into_error())
}

/// Parses a change that requires a reason: the parsed id of the target, and the reason.
pub(in crate::grpc) fn parse_with_reason<Id>(id: ParseResult<Id>, reason: &str) -> ParseResult<(Id, Reason)> {
    let mut fields = FieldValidator::new();
    let reason = fields.check("reason", Reason::parse(reason));
    match (id, reason) {
        (Ok(id), Some(reason)) => Ok((id, reason)),
        (Err(ApiError::Invalid(mut violations)), None) => {
            if let ApiError::Invalid(more) = fields.into_error() {
                violations.extend(more);
            }
            Err(ApiError::Invalid(violations))
        }
        (Err(error), _) => Err(error),
        (Ok(_), None) => Err(fields.into_error()),
    }
}

pub(in crate::grpc) fn tenant_message(tenant: Tenant) -> v1::Tenant {
    let status = match tenant.status {
        TenantStatus::Active => v1::TenantStatus::Active,
        TenantStatus::Suspended => v1::TenantStatus::Suspended,
    };
    v1::Tenant {
        tenant_id: tenant.id.as_str().to_owned(),
        name: tenant.name.as_str().to_owned(),
        plan: tenant.plan.as_str().to_owned(),
        status: status.into(),
        created_at: Some(timestamp(tenant.created_at)),
        updated_at: Some(timestamp(tenant.updated_at)),
        suspend_reason: tenant.suspend_reason,
        etag: tenant.etag.to_string(),
        leak_policy: tenant.leak_policy.map(leak_policy_message),
        deletion_started_at: tenant.deletion_started_at.map(timestamp),
    }
}

pub(in crate::grpc) fn parse_issue_key(request: &v1::IssueKeyRequest) -> ParseResult<KeyToIssue> {
    let mut fields = FieldValidator::new();
    let tenant_id = fields.check("tenant_id", TenantId::parse(&request.tenant_id));
    let name = fields.check("name", KeyName::parse(&request.name));
    let scopes = fields.parse_scopes("scopes", &request.scopes);
    let expires_at = parse_optional_timestamp(&mut fields, "expires_at", request.expires_at);
    let networks = fields.parse_networks("allowed_networks", &request.allowed_networks);
    let reason = fields.parse_optional_reason(&request.reason);
    match (tenant_id, name, scopes, expires_at, networks, reason) {
        (
            Some(tenant_id),
            Some(name),
            Some(scopes),
            Some(expires_at),
            Some(allowed_networks),
            Some(reason),
        ) => Ok(KeyToIssue { tenant_id, name, scopes, allowed_networks, expires_at, reason }),
        _ => Err(fields.into_error()),
    }
}

pub(in crate::grpc) fn parse_rotate_key(
    request: &v1::RotateKeyRequest,
) -> ParseResult<(KeyId, Option<Duration>, SuccessorExpiry, Option<Reason>)> {
    let mut fields = FieldValidator::new();
    let key_id = fields.check("key_id", KeyId::parse(&request.key_id));
    let overlap = match request.overlap {
        Some(overlap) => fields.check("overlap", parse_duration(overlap)).map(Some),
        None => Some(None),
    };
    let expires_at = parse_optional_timestamp(&mut fields, "expires_at", request.expires_at);
    let expires_at = match (expires_at, request.no_expiry) {
        (Some(Some(_)), true) => {
            fields.add_violation("no_expiry", "must not be set together with expires_at");
            None
        }
        (expires_at, false) => expires_at.map(|at| at.map_or(SuccessorExpiry::Kept, SuccessorExpiry::At)),
        (expires_at, true) => expires_at.map(|_| SuccessorExpiry::Never),
    };
    let reason = fields.parse_optional_reason(&request.reason);
    match (key_id, overlap, expires_at, reason) {
        (Some(key_id), Some(overlap), Some(expires_at), Some(reason)) => {
            Ok((key_id, overlap, expires_at, reason))
        }
        _ => Err(fields.into_error()),
    }
}

pub(in crate::grpc) fn parse_import_keys(
    request: &v1::ImportKeysRequest,
) -> ParseResult<ParsedEntries<KeyToImport>> {
    let count = request.keys.len();
    if !(1..=MAX_IMPORT_KEYS).contains(&count) {
        let mut fields = FieldValidator::new();
        fields.add_violation("keys", format!("must hold 1 to {MAX_IMPORT_KEYS} entries, not {count}"));
        return Err(fields.into_error());
    }
    let entry = |key| {
        let mut fields = FieldValidator::new();
        parse_import_key(&mut fields, key).ok_or_else(|| fields.into_error())
    };
    Ok(request.keys.iter().map(entry).collect())
}

fn parse_import_key(fields: &mut FieldValidator, key: &v1::ImportKey) -> Option<KeyToImport> {
    let tenant_id = fields.check("tenant_id", TenantId::parse(&key.tenant_id));
    let digest = <[u8; 32]>::try_from(key.sha256.as_slice());
    let digest =
        digest.map_err(|_| format!("must be 32 bytes, not {}", key.sha256.len())).and_then(|digest| {
            key_text::check_hash(&digest).map_err(|error| error.to_string())?;
            Ok(digest)
        });
    let digest = fields.check("sha256", digest);
    let name = fields.check("name", KeyName::parse(&key.name));
    let prefix_hint = fields.check("prefix_hint", parse_key_beginning(&key.prefix_hint));
    let scopes = fields.parse_scopes("scopes", &key.scopes);
    let created_at = parse_optional_timestamp(fields, "created_at", key.created_at);
    let expires_at = parse_optional_timestamp(fields, "expires_at", key.expires_at);
    let allowed_networks = fields.parse_networks("allowed_networks", &key.allowed_networks);
    let key = NewKey {
        id: KeyId::generate(),
        tenant_id: tenant_id?,
        hash: KeyHash::from_bytes(digest?),
        name: name?,
        prefix_hint: prefix_hint?,
        scopes: scopes?,
        allowed_networks: allowed_networks?,
        expires_at: expires_at?,
    };
    Some(KeyToImport { key, created_at: created_at? })
}

/// A hint shows whether its key could ever be looked up, unlike the key's hash.
fn parse_key_beginning(hint: &str) -> Result<PrefixHint, String> {
    let parsed = PrefixHint::parse(hint).map_err(|error| error.to_string())?;
    key_text::check_characters(hint).map_err(|error| error.to_string())?;
    Ok(parsed)
}

pub(in crate::grpc) fn import_response(
    errors: EntryErrors,
    Committed { outcome: outcomes, revision }: Committed<Vec<ImportOutcome>>,
) -> v1::ImportKeysResponse {
    use v1::import_key_result::Result as Outcome;

    let outcome = |outcome| match outcome {
        ImportOutcome::Imported(id) => Ok(Outcome::ImportedKeyId(id.to_string())),
        ImportOutcome::Existing(id) => Ok(Outcome::ExistingKeyId(id.to_string())),
        ImportOutcome::Different { id, fields } => {
            let fields = fields.into_iter().map(str::to_owned).collect();
            Ok(Outcome::Different(v1::DifferentKey { key_id: id.to_string(), fields }))
        }
        ImportOutcome::NoSuchTenant(tenant) => Err(AdminError::NoSuchTenant(tenant)),
        ImportOutcome::HeldByAnotherTenant => Err(AdminError::KeyHeldByAnotherTenant),
        ImportOutcome::Unreadable(unreadable) => Err(AdminError::Store(unreadable.into())),
    };
    let outcomes = outcomes.into_iter().map(|found| outcome(found).map_err(ApiError::from));
    let results = errors.merge_outcomes(outcomes).map(|outcome| v1::ImportKeyResult {
        result: Some(outcome.unwrap_or_else(|error| Outcome::Error(status::status_message(error)))),
    });
    v1::ImportKeysResponse { results: results.collect(), revision: revision.0 }
}

pub(in crate::grpc) fn get_key_response(state: KeyState) -> v1::GetKeyResponse {
    let KeyState { stored, verdict, decided_at, on_deny_list } = state;
    v1::GetKeyResponse {
        key: Some(api_key_message(stored.key)),
        tenant: stored.tenant.map(tenant_message),
        verdict: proto_verdict(verdict).into(),
        decided_at: Some(timestamp(decided_at)),
        on_deny_list,
    }
}

pub(in crate::grpc) fn api_key_message(key: ApiKey) -> v1::ApiKey {
    v1::ApiKey {
        key_id: key.id.to_string(),
        tenant_id: key.tenant_id.to_string(),
        name: key.name,
        prefix_hint: key.prefix_hint,
        scopes: scope_names(&key.scopes),
        created_at: Some(timestamp(key.created_at)),
        expires_at: key.expires_at.map(timestamp),
        revoked_at: key.revoked_at.map(timestamp),
        revoke_reason: key.revoke_reason,
        last_used_at: key.last_used_at.map(timestamp),
        replaced_by_key_id: key.replaced_by.map(|id| id.to_string()).unwrap_or_default(),
        pepper_id: key.pepper_id.unwrap_or_default(),
        enabled: key.disabled_at.is_none(),
        disabled_at: key.disabled_at.map(timestamp),
        etag: key.etag.to_string(),
        allowed_networks: network_texts(&key.allowed_networks),
    }
}

pub(super) fn parse_optional_timestamp(
    fields: &mut FieldValidator,
    field: &str,
    timestamp: Option<Timestamp>,
) -> Option<Option<UnixMillis>> {
    match timestamp {
        Some(timestamp) => fields.check(field, parse_timestamp(timestamp)).map(Some),
        None => Some(None),
    }
}
