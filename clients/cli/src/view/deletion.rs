//! The view of a deleted tenant.

use serde::Serialize;
use tenant_auth_client::proto;

use crate::output::{self, View};

#[derive(Debug, Default, Serialize)]
pub(crate) struct DeletionView {
    tenant_id: String,
    sessions_deleted: i64,
    keys_deleted: i64,
    usage_deleted: i64,
}

impl DeletionView {
    pub(crate) fn new(tenant_id: String) -> Self {
        Self { tenant_id, ..Self::default() }
    }

    /// Adds what one call has deleted.
    pub(crate) fn add(&mut self, step: &proto::DeleteTenantResponse) {
        self.sessions_deleted += step.sessions_deleted;
        self.keys_deleted += step.keys_deleted;
        self.usage_deleted += step.usage_deleted;
    }

    /// Returns whether something is deleted already.
    pub(crate) fn is_begun(&self) -> bool {
        self.sessions_deleted + self.keys_deleted + self.usage_deleted > 0
    }
}

impl View for DeletionView {
    fn text(&self) -> String {
        output::details(&[
            ("deleted tenant", self.tenant_id.clone()),
            ("sessions", self.sessions_deleted.to_string()),
            ("keys", self.keys_deleted.to_string()),
            ("usage rows", self.usage_deleted.to_string()),
        ])
    }
}
