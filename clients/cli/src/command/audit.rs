//! `tenantctl audit …`

use clap::{Args, Subcommand};
use tenant_auth_client::proto;

use super::{
    Context,
    replay::{self, Replay},
};
use crate::{
    args::{Limit, When},
    exit::Exit,
    failure::{Failure, FieldNames},
    listing,
    view::EventView,
};

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List changes, latest first
    ///
    /// Every option narrows the list. Times are by the clock of the replica that made the change.
    List(List),

    /// Reapply changes that a restored database lacks: revocations, suspensions and resumptions
    ///
    /// Reads the audit log copy that the service wrote, or a saved list. Each key and tenant gets the last
    /// state in the log. Keys and tenants created since the backup are listed, because a log cannot restore
    /// them. Safe to run again.
    Replay(Replay),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only changes of this tenant
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
    tenant: String,

    /// Only changes to the tenant, key or database with this id
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
    target: String,

    /// Only changes by this caller, by its name in the callers file
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    caller: String,

    /// Only changes of this kind, such as key.revoke
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    action: String,

    /// Only changes since this time, such as 2030-01-31T00:00:00Z, or a duration before now, such as 2h
    #[arg(long, value_parser = When::parse, value_name = "WHEN")]
    since: Option<When>,

    /// Only changes until this time; format as for --since
    #[arg(long, value_parser = When::parse, value_name = "WHEN")]
    until: Option<When>,

    #[command(flatten)]
    limit: Limit,
}

const FIELD_NAMES: FieldNames = &[
    ("tenant_id", "--tenant"),
    ("target", "--target"),
    ("caller", "--caller"),
    ("action", "--action"),
    ("since", "--since"),
    ("until", "--until"),
];

pub(super) async fn run(context: &Context, command: AuditCommand) -> Result<Exit, Failure> {
    let list = match command {
        AuditCommand::List(list) => list,
        AuditCommand::Replay(command) => return replay::run(context, command).await,
    };
    let [since, until] = When::moments([list.since, list.until], async || context.now().await).await?;
    let admin = context.client()?.admin();
    let page = async |page_size, page_token| {
        let request = proto::ListAuditEventsRequest {
            tenant_id: list.tenant.clone(),
            page_size,
            page_token,
            target: list.target.clone(),
            caller: list.caller.clone(),
            since: since.map(Into::into),
            until: until.map(Into::into),
            action: list.action.clone(),
        };
        let page = admin.list_audit_events(request).await?;
        let events = page.events.into_iter().map(EventView::new);
        Ok((events.collect(), page.next_page_token))
    };
    listing::print_list(context.output, list.limit, FIELD_NAMES, page).await
}
