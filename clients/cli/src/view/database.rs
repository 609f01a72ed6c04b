//! The view of a replica's database state.

use std::time::Duration;

use serde::Serialize;
use tenant_auth_client::proto::{self, DatabaseDoubt, held_end::Subject};

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
struct HeldRevocationView {
    kind: &'static str,
    id: String,
    tenant_id: String,
    revoked_at: Option<Moment>,
}

impl HeldRevocationView {
    fn new(held: proto::HeldEnd) -> Self {
        let (kind, id) = match held.subject {
            Some(Subject::KeyId(id)) => ("revoked key", id),
            Some(Subject::SuspendedTenantId(id)) => ("suspended tenant", id),
            Some(Subject::SessionId(id)) => ("unbound session", id),
            None => ("unknown", String::new()),
        };
        Self { kind, id, tenant_id: held.tenant_id, revoked_at: to_moment(held.revoked_at) }
    }

    fn table(held: &[Self]) -> String {
        if held.is_empty() {
            return String::new();
        }
        let row = |held: &Self| {
            vec![held.kind.to_owned(), held.id.clone(), held.tenant_id.clone(), to_text(held.revoked_at)]
        };
        format!("\n\n{}", output::render_table(&["HELD", "ID", "TENANT", "REVOKED"], held.iter().map(row)))
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct DatabaseView {
    believed: bool,
    doubt: Option<&'static str>,
    doubted_since: Option<Moment>,
    known: Option<DatabaseIdentityView>,
    revision: i64,
    found: Option<DatabaseIdentityView>,
    found_revision: i64,
    standstill_seconds: Option<i64>,
    held: Vec<HeldRevocationView>,
}

impl DatabaseView {
    pub(crate) fn new(state: proto::GetDatabaseStateResponse) -> Self {
        let doubt = match state.doubt() {
            DatabaseDoubt::Unspecified => None,
            DatabaseDoubt::AnotherDatabase => Some("it is another database"),
            DatabaseDoubt::Empty => Some("it has no schema"),
            DatabaseDoubt::RolledBack => {
                Some("it was rolled back: its change log lacks entries that were read")
            }
        };
        Self {
            believed: doubt.is_none(),
            doubt,
            doubted_since: to_moment(state.doubted_since),
            known: state.known.map(DatabaseIdentityView::new),
            revision: state.revision,
            found: state.found.map(DatabaseIdentityView::new),
            found_revision: state.found_revision,
            standstill_seconds: state.standstill.map(|standstill| standstill.seconds),
            held: state.held.into_iter().map(HeldRevocationView::new).collect(),
        }
    }
}

impl View for DatabaseView {
    fn text(&self) -> String {
        let trusted = match self.doubt {
            None => "yes".to_owned(),
            Some(reason) => format!("no: {reason}"),
        };
        let stalled =
            self.standstill_seconds.map(|seconds| format_coarse(Duration::from_secs(seconds.unsigned_abs())));
        let found = self.doubt.map(|_| self.found_revision.to_string());
        let details = output::details(&[
            ("trusted", trusted),
            ("since", to_text(self.doubted_since)),
            ("known", DatabaseIdentityView::text(self.known.as_ref())),
            ("read up to", self.revision.to_string()),
            ("found", DatabaseIdentityView::text(self.found.as_ref())),
            ("found revision", found.unwrap_or_default()),
            ("replica stalled", to_text(stalled)),
        ]);
        details + &HeldRevocationView::table(&self.held)
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct AcceptedView {
    accepted: bool,
    database: Option<DatabaseIdentityView>,
    held: Vec<HeldRevocationView>,
    made_again: Option<usize>,
}

impl AcceptedView {
    pub(crate) fn new(accepted: proto::AcceptDatabaseResponse, made_again: Option<usize>) -> Self {
        let held = accepted.held.into_iter().map(HeldRevocationView::new).collect();
        let (database, accepted) = (accepted.database.map(DatabaseIdentityView::new), accepted.accepted);
        Self { accepted, database, held, made_again }
    }
}

impl View for AcceptedView {
    fn text(&self) -> String {
        let details = output::details(&[
            (
                if self.accepted { "accepted" } else { "already trusted" },
                DatabaseIdentityView::text(self.database.as_ref()),
            ),
            ("held", self.held.len().to_string()),
            ("reapplied", to_text(self.made_again)),
        ]);
        details + &HeldRevocationView::table(&self.held)
    }

    fn note(&self) -> Option<&'static str> {
        if !self.held.is_empty() && self.made_again.is_none() {
            Some(
                "these revocations are held only while this replica runs: use --reapply to write them to the database",
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
