//! Messages that explain a key.

use tenant_auth_proto::v1;

use super::{
    admin::get_key_response,
    audit::audit_event_message,
    fields::FieldValidator,
    inspect::inspection_message,
    validation::{proto_verdict, scope_names},
};
use crate::{
    domain::{
        admin::{AdminError, ExplainQuery, ExplainedVerdict, KeyHistory, KeyReference},
        id::KeyId,
        inspect::KeyInspection,
        key::PresentedKey,
        verdict::Verdict,
    },
    grpc::{error::ApiError, status},
};

pub(in crate::grpc) fn parse_explain_key(request: v1::ExplainKeyRequest) -> Result<ExplainQuery, ApiError> {
    let mut fields = FieldValidator::new();
    // The key is moved into its self-wiping type before any check can fail.
    let plaintext = PresentedKey::new(request.plaintext);
    let key = match (&*request.key_id, plaintext.expose().is_empty()) {
        ("", true) => {
            fields.add_violation("key_id", "must be set if plaintext is not");
            None
        }
        ("", false) => Some(KeyReference::Plaintext(plaintext)),
        (id, true) => fields.check("key_id", KeyId::parse(id)).map(KeyReference::Id),
        (_, false) => {
            fields.add_violation("plaintext", "must not be set together with key_id");
            None
        }
    };
    let required_scopes = fields.parse_scopes("required_scopes", &request.required_scopes);
    let client_address = fields.parse_client_address(&request.client_address);
    match (key, required_scopes, client_address) {
        (Some(key), Some(required_scopes), Some(client_address)) => {
            Ok(ExplainQuery { key, required_scopes, client_address })
        }
        _ => Err(fields.into_error()),
    }
}

/// An explanation of a key without a record.
pub(in crate::grpc) fn explanation_without_key(
    explained: ExplainedVerdict,
    database_error: Option<ApiError>,
) -> v1::ExplainKeyResponse {
    v1::ExplainKeyResponse {
        verdict: verdict_number(explained.verdict),
        denied_by_list: explained.is_denied_by_list,
        database_error: database_error.map(status::status_message),
        ..v1::ExplainKeyResponse::default()
    }
}

pub(in crate::grpc) fn explanation_message(
    explained: ExplainedVerdict,
    inspection: KeyInspection,
    history: Result<KeyHistory, AdminError>,
) -> v1::ExplainKeyResponse {
    let message = v1::ExplainKeyResponse {
        key_id: inspection.key_id.to_string(),
        verdict: verdict_number(explained.verdict),
        missing_scopes: scope_names(&explained.missing_scopes),
        denied_by_list: explained.is_denied_by_list,
        replica: Some(inspection_message(inspection)),
        ..v1::ExplainKeyResponse::default()
    };
    match history {
        Ok(KeyHistory { state, key_events, tenant_events }) => v1::ExplainKeyResponse {
            database: state.map(get_key_response),
            key_events: key_events.into_iter().map(audit_event_message).collect(),
            tenant_events: tenant_events.into_iter().map(audit_event_message).collect(),
            ..message
        },
        Err(error) => {
            v1::ExplainKeyResponse { database_error: Some(status::status_message(error.into())), ..message }
        }
    }
}

/// Unspecified: the replica cannot decide now.
fn verdict_number(verdict: Option<Verdict>) -> i32 {
    verdict.map_or(v1::Verdict::Unspecified, proto_verdict).into()
}
