//! `tenantctl database …`

use clap::Subcommand;
use tenant_auth_client::{
    AdminClient, Error,
    proto::{self, retained_revocation::Subject},
};

use super::Context;
use crate::{
    exit::Exit,
    failure::{Failure, FieldNames},
    view::{AcceptedView, DatabaseView},
};

#[derive(Debug, Subcommand)]
pub(crate) enum DatabaseCommand {
    /// Show which database the answering replica knows, and whether it trusts what it reads
    ///
    /// Exits with 1 while the replica does not trust the database.
    Status,

    /// Accept the current database, after a restore or a replacement
    ///
    /// All replicas trust it from then on. What this replica knows to be revoked, suspended or unbound, and
    /// what the database may lack, is retained and listed.
    Accept {
        /// Reason, for the audit log
        #[arg(long)]
        reason: String,

        /// Also write the retained revocations to the database: revoke, disable, suspend and unbind them
        #[arg(long)]
        reapply: bool,
    },
}

const FIELD_NAMES: FieldNames = &[("reason", "--reason")];

pub(super) async fn run(context: &Context, command: DatabaseCommand) -> Result<Exit, Failure> {
    let client = context.client()?;
    let admin = client.admin();
    match command {
        DatabaseCommand::Status => {
            let state = admin.database_state().await.map_err(Failure::from_service(FIELD_NAMES))?;
            let is_trusted = state.distrust_reason() == proto::DatabaseDistrustReason::Unspecified;
            context.output.show(&DatabaseView::new(state))?;
            Ok(if is_trusted { Exit::Done } else { Exit::Denied })
        }
        DatabaseCommand::Accept { reason, reapply } => {
            let accepted =
                admin.accept_database(&reason).await.map_err(Failure::from_service(FIELD_NAMES))?;
            let mut reapplied = 0;
            if reapply {
                for retained in &accepted.retained_revocations {
                    if reapply_revocation(&client, &admin, retained, &reason)
                        .await
                        .map_err(Failure::from_service(FIELD_NAMES))?
                    {
                        reapplied += 1;
                    }
                }
            }
            context.output.show(&AcceptedView::new(accepted, reapply.then_some(reapplied)))?;
            Ok(Exit::Done)
        }
    }
}

/// Reapplies one retained revocation. Returns false if the database does not contain its subject, so that there
/// is nothing to revoke.
async fn reapply_revocation(
    client: &tenant_auth_client::Client,
    admin: &AdminClient,
    retained: &proto::RetainedRevocation,
    reason: &str,
) -> Result<bool, Error> {
    let done = match &retained.subject {
        Some(Subject::KeyId(id)) => admin.revoke_key(id, reason).await.map(drop),
        Some(Subject::DisabledKeyId(id)) => admin.disable_key(id, reason).await.map(drop),
        Some(Subject::SuspendedTenantId(id)) => admin.suspend_tenant(id, reason).await.map(drop),
        Some(Subject::SessionId(id)) => client.unbind_session(id, &retained.tenant_id).await.map(drop),
        // A subject of a newer service.
        None => return Ok(false),
    };
    match done {
        Ok(()) => Ok(true),
        Err(Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
