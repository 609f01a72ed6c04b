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
    /// Show what is in force on this replica
    Show,

    /// Set another one on this replica, for a limited time
    Set {
        /// Up to which age memory may answer, such as 12h; at most 7d
        #[arg(value_parser = time::parse_span, value_name = "TIME")]
        grace: Duration,

        /// For how long it holds, such as 24h; at most 7d
        #[arg(long, value_parser = time::parse_nonzero_span, value_name = "TIME")]
        expires_in: Duration,

        /// Why, for whoever asks later
        #[arg(long)]
        reason: String,
    },

    /// Take back what was set on this replica
    Reset {
        /// Why, for whoever asks later
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
    let grace = grace.ok_or_else(|| Failure::Unexpected("the reply holds no grace".to_owned()))?;
    context.output.show(&GraceView::new(&context.globals.endpoint, grace, audited))?;
    Ok(Exit::Done)
}

fn to_wire_duration(time: Duration) -> Result<prost_types::Duration, Failure> {
    time.try_into().map_err(|_| Failure::usage("the time is too long"))
}
