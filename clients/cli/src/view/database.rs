//! The view of a replica's database state.

use std::time::Duration;

use serde::Serialize;
use tenant_auth_client::proto::{self, DatabaseDistrustReason, retained_revocation::Subject};

use super::{to_moment, to_text};
use crate::{
    output::{self, View},
    time::{Moment, format_coarse},
};

#[derive(Debug, Serialize)]
struct DatabaseIdentityView {
    database_id: String,
    epoch: i64,
}

impl DatabaseIdentityView {
    fn new(identity: proto::DatabaseIdentity) -> Self {
        Self { database_id: identity.database_id, epoch: identity.epoch }
    }

    fn text(identity: Option<&Self>) -> String {
        identity.map_or_else(String::new, |identity| {
            format!("{}, epoch {}", identity.database_id, identity.epoch)
        })
    }
}

#[derive(Debug, Serialize)]
struct RetainedRevocationView {
    kind: &'static str,
    id: String,
    tenant_id: String,
    revoked_at: Option<Moment>,
}

impl RetainedRevocationView {
    fn new(retained: proto::RetainedRevocation) -> Self {
        let (kind, id) = match retained.subject {
            Some(Subject::KeyId(id)) => ("revoked key", id),
            Some(Subject::DisabledKeyId(id)) => ("disabled key", id),
            Some(Subject::SuspendedTenantId(id)) => ("suspended tenant", id),
            Some(Subject::SessionId(id)) => ("unbound session", id),
            None => ("unknown", String::new()),
        };
        Self { kind, id, tenant_id: retained.tenant_id, revoked_at: to_moment(retained.revoked_at) }
    }

    fn table(retained: &[Self]) -> String {
        if retained.is_empty() {
            return String::new();
        }
        let row = |retained: &Self| {
            vec![
                retained.kind.to_owned(),
                retained.id.clone(),
                retained.tenant_id.clone(),
                to_text(retained.revoked_at),
            ]
        };
        format!(
            "\n\n{}",
            output::render_table(&["RETAINED", "ID", "TENANT", "REVOKED"], retained.iter().map(row))
        )
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct DatabaseView {
    trusted: bool,
    distrust_reason: Option<&'static str>,
    distrusted_since: Option<Moment>,
    known: Option<DatabaseIdentityView>,
    revision: i64,
    found: Option<DatabaseIdentityView>,
    found_revision: i64,
    read_replica_stalled_seconds: Option<i64>,
    retained_revocations: Vec<RetainedRevocationView>,
}

impl DatabaseView {
    pub(crate) fn new(state: proto::GetDatabaseStateResponse) -> Self {
        let distrust_reason = match state.distrust_reason() {
            DatabaseDistrustReason::Unspecified => None,
            DatabaseDistrustReason::AnotherDatabase => Some("it is another database"),
            DatabaseDistrustReason::Empty => Some("it has no schema"),
            DatabaseDistrustReason::RolledBack => {
                Some("it was rolled back: its change log lacks entries that were read")
            }
        };
        Self {
            trusted: distrust_reason.is_none(),
            distrust_reason,
            distrusted_since: to_moment(state.distrusted_since),
            known: state.known.map(DatabaseIdentityView::new),
            revision: state.revision,
            found: state.found.map(DatabaseIdentityView::new),
            found_revision: state.found_revision,
            read_replica_stalled_seconds: state.read_replica_stalled_for.map(|stalled| stalled.seconds),
            retained_revocations: state
                .retained_revocations
                .into_iter()
                .map(RetainedRevocationView::new)
                .collect(),
        }
    }
}

impl View for DatabaseView {
    fn text(&self) -> String {
        let trusted = match self.distrust_reason {
            None => "yes".to_owned(),
            Some(reason) => format!("no: {reason}"),
        };
        let stalled = self
            .read_replica_stalled_seconds
            .map(|seconds| format_coarse(Duration::from_secs(seconds.unsigned_abs())));
        let found = self.distrust_reason.map(|_| self.found_revision.to_string());
        let details = output::details(&[
            ("trusted", trusted),
            ("since", to_text(self.distrusted_since)),
            ("known", DatabaseIdentityView::text(self.known.as_ref())),
            ("read up to", self.revision.to_string()),
            ("found", DatabaseIdentityView::text(self.found.as_ref())),
            ("found revision", found.unwrap_or_default()),
            ("replica stalled", to_text(stalled)),
        ]);
        details + &RetainedRevocationView::table(&self.retained_revocations)
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct AcceptedView {
    accepted: bool,
    database: Option<DatabaseIdentityView>,
    retained_revocations: Vec<RetainedRevocationView>,
    reapplied: Option<usize>,
}

impl AcceptedView {
    pub(crate) fn new(accepted: proto::AcceptDatabaseResponse, reapplied: Option<usize>) -> Self {
        let retained_revocations =
            accepted.retained_revocations.into_iter().map(RetainedRevocationView::new).collect();
        let (database, accepted) = (accepted.database.map(DatabaseIdentityView::new), accepted.accepted);
        Self { accepted, database, retained_revocations, reapplied }
    }
}

impl View for AcceptedView {
    fn text(&self) -> String {
        let details = output::details(&[
            (
                if self.accepted { "accepted" } else { "already trusted" },
                DatabaseIdentityView::text(self.database.as_ref()),
            ),
            ("retained", self.retained_revocations.len().to_string()),
            ("reapplied", to_text(self.reapplied)),
        ]);
        details + &RetainedRevocationView::table(&self.retained_revocations)
    }

    fn note(&self) -> Option<&'static str> {
        if !self.retained_revocations.is_empty() && self.reapplied.is_none() {
            Some(
                "these revocations are retained only while this replica runs: use --reapply to write them to the database",
            )
        } else if !self.accepted {
            Some(
                "this replica already trusts its database, so nothing was changed: use the endpoint of one that does not",
            )
        } else {
            None
        }
    }
}
