//! Explains the verdict on a key, from the database and from the cache of this replica.

use std::time::Instant;

use tenant_auth_proto::v1;

use super::admin::AdminRpc;
use crate::{
    domain::{
        admin::{AdminError, ExplainQuery, ExplainedVerdict, KeyCache, KeyReference, ResolvedKey},
        audit::AuditStore,
        recovery::DatabaseWatch,
        store::Store,
        verdict::Verdict,
    },
    grpc::{
        convert::{explanation_message, explanation_without_key},
        error::ApiError,
    },
};

impl<S: Store + AuditStore, M: KeyCache, R: Store, W: DatabaseWatch> AdminRpc<S, M, R, W> {
    /// Explains a key. A failure of the database is a part of the explanation.
    ///
    /// # Errors
    /// [`AdminError::NoSuchKey`] for an id that neither the database nor the cache contains.
    pub(super) async fn explain(
        &self,
        query: &ExplainQuery,
        deadline: Instant,
    ) -> Result<v1::ExplainKeyResponse, ApiError> {
        let cached = |hash: &_| self.inspector.key_id(hash);
        let without_key = |verdict, denied_by_list, error| {
            let explained = ExplainedVerdict::without_record(verdict, denied_by_list);
            Ok(explanation_without_key(explained, error))
        };
        let id = match self.admin.resolve_key(&query.key, cached, deadline).await {
            ResolvedKey::Known(id) => id,
            ResolvedKey::Malformed => return without_key(Some(Verdict::Malformed), false, None),
            ResolvedKey::DeniedByHash => return without_key(Some(Verdict::Revoked), true, None),
            ResolvedKey::Unknown => return without_key(Some(Verdict::Unknown), false, None),
            ResolvedKey::Unread(error) => {
                return without_key(None, false, Some(AdminError::Store(error).into()));
            }
        };
        let inspection = self.inspector.inspect(&id);
        let history = self.admin.key_history(&id, deadline).await;
        let is_missing = history.as_ref().is_ok_and(|history| history.state.is_none());
        if is_missing && inspection.cached.is_none() && matches!(query.key, KeyReference::Id(_)) {
            return Err(AdminError::NoSuchKey(id).into());
        }
        let explained = self.admin.explain_verdict(query, &inspection, &history);
        Ok(explanation_message(explained, inspection, history))
    }
}
