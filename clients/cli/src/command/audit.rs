//! `tenantctl audit …`

use clap::Subcommand;
use tenant_auth_client::proto;

use super::Context;
use crate::{
    args::Limit,
    exit::Exit,
    failure::{Failure, Names},
    page,
    view::AuditView,
};

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List changes, newest first
    List {
        /// Only what concerns this tenant
        #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
        tenant: String,

        #[command(flatten)]
        limit: Limit,
    },
}

const NAMES: Names = &[("tenant_id", "--tenant")];

pub(super) async fn run(context: &Context, command: AuditCommand) -> Result<Exit, Failure> {
    let AuditCommand::List { tenant, limit } = command;
    let admin = context.client()?.admin();
    let listing = page::read(limit.cap(), async |page_size, page_token| {
        let tenant_id = tenant.clone();
        let request = proto::ListAuditEventsRequest { tenant_id, page_size, page_token };
        let page = admin.list_audit_events(request).await?;
        Ok((page.events, page.next_page_token))
    });
    let listing = listing.await.map_err(Failure::naming(NAMES))?;
    context.output.show(&AuditView::new(listing))?;
    Ok(Exit::Done)
}
