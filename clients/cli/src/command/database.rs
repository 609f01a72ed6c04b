//! `tenantctl database …`

use clap::Subcommand;
use tenant_auth_client::{
    AdminClient, Error,
    proto::{self, held_end::Subject},
};

use super::Context;
use crate::{
    exit::Exit,
    failure::{Failure, FieldNames},
    view::{AcceptedView, DatabaseView},
};

#[derive(Debug, Subcommand)]
pub(crate) enum DatabaseCommand {
    /// Say which database the replica that answers knows, and whether it believes what it reads
    ///
    /// Ends with 1 while it does not.
    Status,

    /// Accept the database as it is, after a restore or a replacement
    ///
    /// Every replica believes it from then on. What this replica knows to be revoked, suspended or unbound, and the database may
    /// lack, is held and listed.
    Accept {
        /// Why, for whoever asks later
        #[arg(long)]
        reason: String,

        /// Also make what is held again: revoke, suspend and unbind it
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
            let believed = state.doubt() == proto::DatabaseDoubt::Unspecified;
            context.output.show(&DatabaseView::new(state))?;
            Ok(if believed { Exit::Done } else { Exit::Denied })
        }
        DatabaseCommand::Accept { reason, reapply } => {
            let accepted =
                admin.accept_database(&reason).await.map_err(Failure::from_service(FIELD_NAMES))?;
            let mut made_again = 0;
            if reapply {
                for held in &accepted.held {
                    if reapply_revocation(&client, &admin, held, &reason)
                        .await
                        .map_err(Failure::from_service(FIELD_NAMES))?
                    {
                        made_again += 1;
                    }
                }
            }
            context.output.show(&AcceptedView::new(accepted, reapply.then_some(made_again)))?;
            Ok(Exit::Done)
        }
    }
}

/// Whether there was something to end: what the database does not hold at all needs no end.
async fn reapply_revocation(
    client: &tenant_auth_client::Client,
    admin: &AdminClient,
    held: &proto::HeldEnd,
    reason: &str,
) -> Result<bool, Error> {
    let done = match &held.subject {
        Some(Subject::KeyId(id)) => admin.revoke_key(id, reason).await.map(drop),
        Some(Subject::SuspendedTenantId(id)) => admin.suspend_tenant(id, reason).await.map(drop),
        Some(Subject::SessionId(id)) => client.unbind_session(id, &held.tenant_id).await.map(drop),
        // Of a newer service.
        None => return Ok(false),
    };
    match done {
        Ok(()) => Ok(true),
        Err(Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
