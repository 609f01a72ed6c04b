//! Messages of validation.

use tenant_auth_proto::v1;

use super::{
    entries::ParsedEntries,
    fields::FieldValidator,
    time::{duration, timestamp},
};
use crate::{
    domain::{
        key::PresentedKey,
        network::AllowedNetworks,
        scope::ScopeSet,
        validate::KeyQuery,
        verdict::{Decision, Provenance, Source, Verdict},
    },
    grpc::error::ApiError,
};

/// The maximum number of keys in one batch.
pub(crate) const MAX_BATCH_KEYS: usize = 1_000;

/// Parses one request.
///
/// # Errors
/// If the key is empty, or a scope or the client's address is invalid.
pub(crate) fn parse_key_query(request: v1::ValidateKeyRequest) -> Result<KeyQuery, ApiError> {
    let mut fields = FieldValidator::new();
    let key = PresentedKey::new(request.key);
    if key.expose().is_empty() {
        fields.add_violation("key", "must not be empty");
    }
    let required_scopes = fields.parse_scopes("required_scopes", &request.required_scopes);
    let client_address = fields.parse_client_address(&request.client_address);
    match (required_scopes, client_address) {
        (Some(required_scopes), Some(client_address)) if fields.is_valid() => {
            Ok(KeyQuery { key, required_scopes, client_address })
        }
        _ => Err(fields.into_error()),
    }
}

/// Parses the entries of a batch, in order: a query or an error for each. An invalid entry does not affect
/// the others.
///
/// # Errors
/// If there are no entries, or too many.
pub(crate) fn parse_key_query_batch(
    request: v1::BatchValidateKeysRequest,
) -> Result<ParsedEntries<KeyQuery>, ApiError> {
    let count = request.requests.len();
    if !(1..=MAX_BATCH_KEYS).contains(&count) {
        let mut fields = FieldValidator::new();
        fields.add_violation("requests", format!("must hold 1 to {MAX_BATCH_KEYS} entries, not {count}"));
        return Err(fields.into_error());
    }
    Ok(request.requests.into_iter().map(parse_key_query).collect())
}

/// Converts a decision about a key.
pub(in crate::grpc) fn decision_message(decision: Decision) -> v1::ValidateKeyResponse {
    let Decision { verdict, key, missing_scopes, provenance } = decision;
    let mut message = v1::ValidateKeyResponse {
        verdict: proto_verdict(verdict).into(),
        provenance: Some(provenance_message(provenance)),
        missing_scopes: scope_names(&missing_scopes),
        ..v1::ValidateKeyResponse::default()
    };
    if let Some(key) = key {
        message.tenant_id = key.tenant.id.as_str().to_owned();
        message.tenant_name = key.tenant.name.as_str().to_owned();
        message.plan = key.tenant.plan.as_str().to_owned();
        message.key_id = key.key_id.unpack().as_str().to_owned();
        message.scopes = scope_names(&key.scopes);
        message.expires_at = key.expires_at.get().map(timestamp);
        message.allowed_networks = network_texts(&key.allowed_networks);
    }
    message
}

pub(super) fn provenance_message(provenance: Provenance) -> v1::Provenance {
    v1::Provenance {
        source: proto_source(provenance.source).into(),
        age: Some(duration(provenance.age)),
        revision: provenance.revision.0,
        cacheable_for: Some(duration(provenance.reuse.unwatched)),
        cacheable_while_watched: Some(duration(provenance.reuse.watched)),
    }
}

pub(super) fn proto_source(source: Source) -> v1::Source {
    match source {
        Source::None => v1::Source::Unspecified,
        Source::Database => v1::Source::Database,
        Source::Fresh => v1::Source::Fresh,
        Source::Refreshing => v1::Source::Refreshing,
        Source::Stale => v1::Source::Stale,
        Source::Negative => v1::Source::Negative,
    }
}

pub(super) fn proto_verdict(verdict: Verdict) -> v1::Verdict {
    match verdict {
        Verdict::Valid => v1::Verdict::Valid,
        Verdict::Unknown => v1::Verdict::Unknown,
        Verdict::Malformed => v1::Verdict::Malformed,
        Verdict::Expired => v1::Verdict::Expired,
        Verdict::Revoked => v1::Verdict::Revoked,
        Verdict::Disabled => v1::Verdict::Disabled,
        Verdict::TenantSuspended => v1::Verdict::TenantSuspended,
        Verdict::AddressRequired => v1::Verdict::AddressRequired,
        Verdict::AddressNotAllowed => v1::Verdict::AddressNotAllowed,
        Verdict::InsufficientScope => v1::Verdict::InsufficientScope,
    }
}

pub(super) fn scope_names(scopes: &ScopeSet) -> Vec<String> {
    scopes.iter().map(str::to_owned).collect()
}

pub(super) fn network_texts(networks: &AllowedNetworks) -> Vec<String> {
    networks.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prost::Message as _;

    use super::*;
    use crate::domain::{
        client_reuse::ClientReuse,
        clock::{OptionalMillis, UnixMillis},
        id::{KeyId, TenantId},
        key::KeyRecord,
        scope::Scope,
        tenant::{TenantSnapshot, TenantStatus},
        verdict::Revision,
    };

    #[test]
    fn malformed_batch_entry_fails_alone() {
        let request = |key: &str, scope: &str| v1::ValidateKeyRequest {
            key: key.to_owned(),
            required_scopes: vec!["fine".to_owned(), scope.to_owned()],
            ..Default::default()
        };
        let requests = vec![request("", "B!"), request("a-good-key", "a"), request("k", "B!")];
        let (queries, errors) =
            parse_key_query_batch(v1::BatchValidateKeysRequest { requests }).unwrap().into_parts();
        let fields: Vec<_> = errors
            .merge_outcomes(queries.into_iter().map(|query| Ok(query.key.expose().to_owned())))
            .map(|entry| match entry {
                Ok(key) => vec![key],
                Err(ApiError::Invalid(violations)) => violations.into_iter().map(|v| v.field).collect(),
                Err(error) => panic!("{error:?}"),
            })
            .collect();
        assert_eq!(
            fields,
            [vec!["key", "required_scopes[1]"], vec!["a-good-key"], vec!["required_scopes[1]"]]
        );
    }

    /// h2 sends frames of 256 bytes and more in two writes, with a flush in between.
    #[test]
    fn typical_response_stays_below_256_bytes() {
        let scopes = ["orders:read", "orders:write"].map(|name| Scope::parse(name).unwrap());
        let key = KeyRecord {
            key_id: KeyId::generate().into(),
            tenant: TenantSnapshot {
                id: TenantId::generate(),
                name: "Acme Corporation".into(),
                plan: "enterprise".into(),
                status: TenantStatus::Active,
            }
            .into(),
            scopes: ScopeSet::new(scopes.into()).unwrap().into(),
            allowed_networks: AllowedNetworks::EVERYWHERE,
            expires_at: Some(UnixMillis(1_793_000_000_123)).into(),
            revoked_at: OptionalMillis::NONE,
            last_used_at: OptionalMillis::NONE,
            is_disabled: false,
        };
        let decision = Decision {
            verdict: Verdict::Valid,
            key: Some(key),
            missing_scopes: ScopeSet::EMPTY,
            provenance: Provenance {
                source: Source::Fresh,
                age: Duration::from_nanos(4_999_999_999),
                revision: Revision(10_000_000),
                reuse: ClientReuse::watchable(
                    Duration::from_nanos(4_999_999_999),
                    Duration::from_nanos(59_999_999_999),
                ),
            },
        };
        let framed = decision_message(decision).encoded_len() + 5;
        assert!(framed < 256, "{framed}");
    }
}
