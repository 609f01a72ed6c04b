//! What a replica thinks of its database.

use std::time::Duration;

use serde::Serialize;
use tenant_auth_client::proto::{self, DatabaseDoubt, held_end::Subject};

use super::{moment, or_empty};
use crate::{
    output::{self, View},
    time::{Moment, coarse},
};

#[derive(Debug, Serialize)]
struct Identity {
    database_id: String,
    epoch: i64,
}

impl Identity {
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
struct Held {
    kind: &'static str,
    id: String,
    tenant_id: String,
    revoked_at: Option<Moment>,
}

impl Held {
    fn new(held: proto::HeldEnd) -> Self {
        let (kind, id) = match held.subject {
            Some(Subject::KeyId(id)) => ("revoked key", id),
            Some(Subject::SuspendedTenantId(id)) => ("suspended tenant", id),
            Some(Subject::SessionId(id)) => ("unbound session", id),
            None => ("unknown", String::new()),
        };
        Self { kind, id, tenant_id: held.tenant_id, revoked_at: moment(held.revoked_at) }
    }

    fn table(held: &[Self]) -> String {
        if held.is_empty() {
            return String::new();
        }
        let row = |held: &Self| {
            vec![held.kind.to_owned(), held.id.clone(), held.tenant_id.clone(), or_empty(held.revoked_at)]
        };
        format!("\n\n{}", output::list(&["HELD", "ID", "TENANT", "REVOKED"], held.iter().map(row)))
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct DatabaseView {
    believed: bool,
    doubt: Option<&'static str>,
    doubted_since: Option<Moment>,
    known: Option<Identity>,
    revision: i64,
    found: Option<Identity>,
    found_revision: i64,
    standstill_seconds: Option<i64>,
    held: Vec<Held>,
}

impl DatabaseView {
    pub(crate) fn new(state: proto::GetDatabaseStateResponse) -> Self {
        let doubt = match state.doubt() {
            DatabaseDoubt::Unspecified => None,
            DatabaseDoubt::AnotherDatabase => Some("it is another database"),
            DatabaseDoubt::Empty => Some("it has no schema"),
            DatabaseDoubt::RolledBack => Some("it was rolled back: its change log lacks what was read"),
        };
        Self {
            believed: doubt.is_none(),
            doubt,
            doubted_since: moment(state.doubted_since),
            known: state.known.map(Identity::new),
            revision: state.revision,
            found: state.found.map(Identity::new),
            found_revision: state.found_revision,
            standstill_seconds: state.standstill.map(|standstill| standstill.seconds),
            held: state.held.into_iter().map(Held::new).collect(),
        }
    }
}

impl View for DatabaseView {
    fn text(&self) -> String {
        let believed = match self.doubt {
            None => "yes".to_owned(),
            Some(why) => format!("no: {why}"),
        };
        let still =
            self.standstill_seconds.map(|seconds| coarse(Duration::from_secs(seconds.unsigned_abs())));
        let found = self.doubt.map(|_| self.found_revision.to_string());
        let details = output::details(&[
            ("believed", believed),
            ("since", or_empty(self.doubted_since)),
            ("known", Identity::text(self.known.as_ref())),
            ("read up to", self.revision.to_string()),
            ("found", Identity::text(self.found.as_ref())),
            ("which ends at", found.unwrap_or_default()),
            ("copy stands still", or_empty(still)),
        ]);
        details + &Held::table(&self.held)
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct AcceptedView {
    accepted: bool,
    database: Option<Identity>,
    held: Vec<Held>,
    made_again: Option<usize>,
}

impl AcceptedView {
    pub(crate) fn new(accepted: proto::AcceptDatabaseResponse, made_again: Option<usize>) -> Self {
        let held = accepted.held.into_iter().map(Held::new).collect();
        let (database, accepted) = (accepted.database.map(Identity::new), accepted.accepted);
        Self { accepted, database, held, made_again }
    }
}

impl View for AcceptedView {
    fn text(&self) -> String {
        let details = output::details(&[
            (
                if self.accepted { "accepted" } else { "believed already" },
                Identity::text(self.database.as_ref()),
            ),
            ("held", self.held.len().to_string()),
            ("made again", or_empty(self.made_again)),
        ]);
        details + &Held::table(&self.held)
    }

    fn note(&self) -> Option<&'static str> {
        if !self.held.is_empty() && self.made_again.is_none() {
            Some("these ends hold as long as this replica runs: --reapply makes them again in the database")
        } else if !self.accepted {
            Some("this replica believes its database, so nothing was changed: ask one that does not")
        } else {
            None
        }
    }
}
