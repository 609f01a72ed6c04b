//! Requests that change keys.

use prost_types::FieldMask;
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
