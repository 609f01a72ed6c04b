//! `tenantctl grace …`

use std::time::Duration;

use clap::Subcommand;
use tenant_auth_client::proto;

use super::Context;
use crate::{
    exit::Exit,
    failure::{Failure, FieldNames},
    time,
    view::GraceView,
};

#[derive(Debug, Subcommand)]
pub(crate) enum GraceCommand {
    /// Show the current grace of this replica
    Show,

    /// Set another grace on this replica for a limited time
    Set {
        /// Maximum age of cached answers, such as 12h; at most 7d
        #[arg(value_parser = time::parse_span, value_name = "TIME")]
        grace: Duration,

        /// How long this setting lasts, such as 24h; at most 7d
        #[arg(long, value_parser = time::parse_nonzero_span, value_name = "TIME")]
        expires_in: Duration,

        /// Reason, for the audit log
        #[arg(long)]
        reason: String,
    },

    /// Reset the grace of this replica to its configured value
    Reset {
        /// Reason, for the audit log
        #[arg(long)]
        reason: String,
    },
}

const FIELD_NAMES: FieldNames = &[("grace", "TIME"), ("expires_in", "--expires-in"), ("reason", "--reason")];

pub(super) async fn run(context: &Context, command: GraceCommand) -> Result<Exit, Failure> {
    let admin = context.client()?.admin();
    let failed = Failure::from_service(FIELD_NAMES);
    let (grace, audited) = match command {
        GraceCommand::Show => (Some(admin.outage_grace().await.map_err(failed)?), None),
        GraceCommand::Set { grace, expires_in, reason } => {
            let (grace, expires_in) = (Some(to_wire_duration(grace)?), Some(to_wire_duration(expires_in)?));
            let request = proto::SetOutageGraceRequest { grace, expires_in, reason };
            let reply = admin.set_outage_grace(request).await.map_err(failed)?;
            (reply.grace, Some(reply.audited))
        }
        GraceCommand::Reset { reason } => {
            let reply = admin.reset_outage_grace(&reason).await.map_err(failed)?;
            (reply.grace, Some(reply.audited))
        }
    };
    let grace = grace.ok_or_else(|| Failure::Unexpected("the response has no grace".to_owned()))?;
    context.output.show(&GraceView::new(&context.globals.endpoint, grace, audited))?;
    Ok(Exit::Done)
}

fn to_wire_duration(time: Duration) -> Result<prost_types::Duration, Failure> {
    time.try_into().map_err(|_| Failure::usage("the duration is too long"))
}
