//! The RPCs of operators about several records: a page of tenants or keys, and a key and its successor.

use tenant_auth_proto::v1;
use tonic::Request;

use super::admin::{ADMIN_TIMEOUT, AdminRpc, note_failure};
use crate::{
    domain::{
        admin::{IssuedKey, KeyCache},
        store::{Committed, NamedRecords, Store},
    },
    grpc::{
        context::RequestContext as _,
        convert::{
            KeyListing, TenantListing, api_key_message, list_keys_response, list_tenants_response,
            parse_list_keys, parse_list_tenants, parse_rotate_key,
        },
        error::ApiError,
    },
};

impl<S: Store, M: KeyCache, R, W> AdminRpc<S, M, R, W> {
    pub(super) async fn rotate(
        &self,
        request: Request<v1::RotateKeyRequest>,
    ) -> Result<v1::RotateKeyResponse, ApiError> {
        let (key_id, overlap, expires_at, reason) = parse_rotate_key(request.get_ref())?;
        let (actor, deadline) = (request.actor(), request.deadline(ADMIN_TIMEOUT)?);
        let rotated = self.admin.rotate_key(key_id, overlap, expires_at, reason, actor, deadline).await;
        let Committed { outcome: (IssuedKey { key, plaintext }, old), revision } =
            note_failure(&request.rpc_record(), rotated)?;
        Ok(v1::RotateKeyResponse {
            key: Some(api_key_message(key)),
            plaintext: plaintext.expose().to_owned(),
            replaced: Some(api_key_message(old)),
            revision: revision.0,
        })
    }
}

impl<S: Store + NamedRecords, M: KeyCache, R, W> AdminRpc<S, M, R, W> {
    pub(super) async fn page_of_tenants(
        &self,
        request: Request<v1::ListTenantsRequest>,
    ) -> Result<v1::ListTenantsResponse, ApiError> {
        let deadline = request.deadline(ADMIN_TIMEOUT)?;
        Ok(match parse_list_tenants(request.get_ref())? {
            TenantListing::All(page) => {
                let tenants = self.admin.list_tenants(page, deadline).await;
                list_tenants_response(note_failure(&request.rpc_record(), tenants)?)
            }
            TenantListing::ByName(prefix, page) => {
                let tenants = self.admin.find_tenants_by_name(prefix, page, deadline).await;
                list_tenants_response(note_failure(&request.rpc_record(), tenants)?)
            }
        })
    }

    pub(super) async fn page_of_keys(
        &self,
        request: Request<v1::ListKeysRequest>,
    ) -> Result<v1::ListKeysResponse, ApiError> {
        let inactive = request.get_ref().include_inactive;
        let deadline = request.deadline(ADMIN_TIMEOUT)?;
        Ok(match parse_list_keys(request.get_ref())? {
            KeyListing::OfTenant(tenant, page) => {
                let keys = self.admin.list_keys(tenant, page, inactive, deadline).await;
                list_keys_response(note_failure(&request.rpc_record(), keys)?)
            }
            KeyListing::ByPrefix(what, page) => {
                let keys = self.admin.find_keys(what, page, inactive, deadline).await;
                list_keys_response(note_failure(&request.rpc_record(), keys)?)
            }
            KeyListing::ByName(what, page) => {
                let keys = self.admin.find_keys_by_name(what, page, inactive, deadline).await;
                list_keys_response(note_failure(&request.rpc_record(), keys)?)
            }
        })
    }
}
