//! Requests that change keys.

use prost_types::FieldMask;
use serde_json::Value;
use tenant_auth_proto::v1;
use tonic::Status;

use super::{TestService, owned};

pub(crate) fn mask(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask { paths: owned(paths) })
}

pub(crate) fn key_update(key_id: &str, paths: &[&str]) -> v1::UpdateKeyRequest {
    v1::UpdateKeyRequest { key_id: key_id.to_owned(), update_mask: mask(paths), ..Default::default() }
}

pub(crate) fn enable(key_id: &str, enabled: bool) -> v1::UpdateKeyRequest {
    v1::UpdateKeyRequest { enabled, reason: "test".to_owned(), ..key_update(key_id, &["enabled"]) }
}

pub(crate) async fn update(
    service: &TestService,
    request: v1::UpdateKeyRequest,
) -> Result<v1::ApiKey, Status> {
    Ok(service.admin().update_key(request).await?.into_inner().key.unwrap())
}

/// Returns the details of the entries of an action, oldest first.
pub(crate) async fn audit_details(service: &TestService, target: &str, action: &str) -> Vec<Value> {
    let request = v1::ListAuditEventsRequest { target: target.to_owned(), ..Default::default() };
    let events = service.admin().list_audit_events(request).await.unwrap().into_inner().events;
    let of_action = events.into_iter().rev().filter(|event| event.action == action);
    of_action.map(|event| serde_json::from_str(&event.detail).unwrap()).collect()
}
