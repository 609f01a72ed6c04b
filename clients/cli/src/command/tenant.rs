//! `tenantctl tenant …`

use clap::Subcommand;
use tenant_auth_client::{AdminClient, proto};

use super::{
    Context,
    wait::{self, Wait},
};
use crate::{
    args::{LeakPolicyChange, Limit, leak_policy},
    exit::Exit,
    failure::{Failure, FieldNames},
    listing,
    retry::with_retries,
    view::{DeletionView, TenantView},
};

#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// Create a tenant
    Create {
        /// Display name, 1 to 64 characters
        #[arg(long)]
        name: String,

        /// Opaque label that is returned with every validation
        #[arg(long, default_value = "", hide_default_value = true)]
        plan: String,

        /// Id of the tenant; with an id, creating the same tenant twice is harmless
        #[arg(long, default_value = "", hide_default_value = true)]
        id: String,
    },

    /// Show a tenant
    Get {
        /// Id of the tenant
        id: String,
    },

    /// List tenants, ordered by id, or those with a name, ordered by it
    List {
        /// Only tenants whose name begins with this text, at most 64 characters; upper and lower case of A to Z are the same
        #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
        name: String,

        #[command(flatten)]
        limit: Limit,
    },

    /// Change the name, the plan or the leak policy of a tenant
    #[command(group = clap::ArgGroup::new("changes").required(true).multiple(true))]
    Update {
        /// Id of the tenant
        id: String,

        /// New display name, 1 to 64 characters
        #[arg(long, group = "changes")]
        name: Option<String>,

        /// New plan: an opaque label that is returned with every validation
        #[arg(long, group = "changes")]
        plan: Option<String>,

        /// What happens to its leaked keys: disable, notify, expire: and a time such as expire:24h, or default for the policy of
        /// the service
        #[arg(long, group = "changes", value_parser = leak_policy::parse, value_name = "POLICY")]
        leak_policy: Option<LeakPolicyChange>,

        /// Change the tenant only if this is still its etag; see `tenantctl --json tenant get`
        #[arg(long, default_value = "", hide_default_value = true)]
        etag: String,

        /// Reason, for the audit log
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,

        #[command(flatten)]
        wait: Wait,
    },

    /// Suspend a tenant: its keys are denied until it is resumed
    Suspend {
        /// Id of the tenant
        id: String,

        /// Reason, for the audit log
        #[arg(long)]
        reason: String,

        #[command(flatten)]
        wait: Wait,
    },

    /// Delete a suspended tenant: its sessions, its keys, on request its usage, and the tenant
    ///
    /// The audit log is kept, and so is the usage unless --delete-usage is given. Can be repeated: it then continues.
    Delete {
        /// Id of the tenant
        id: String,

        /// Reason, for the audit log
        #[arg(long)]
        reason: String,

        /// Delete the usage of the tenant, too
        #[arg(long)]
        delete_usage: bool,

        #[command(flatten)]
        wait: Wait,
    },

    /// Resume a suspended tenant
    Resume {
        /// Id of the tenant
        id: String,

        #[command(flatten)]
        wait: Wait,
    },
}

const CREATE_FIELD_NAMES: FieldNames = &[("tenant_id", "--id"), ("name", "--name"), ("plan", "--plan")];
const FIELD_NAMES: FieldNames = &[
    ("tenant_id", "ID"),
    ("name", "--name"),
    ("name_prefix", "--name"),
    ("plan", "--plan"),
    ("leak_policy.expire_in", "--leak-policy"),
    ("etag", "--etag"),
    ("reason", "--reason"),
];

pub(super) async fn run(context: &Context, command: TenantCommand) -> Result<Exit, Failure> {
    let admin = context.client()?.admin();
    let (tenant, revision, wait) = match command {
        TenantCommand::Create { name, plan, id } => {
            let request = proto::CreateTenantRequest { tenant_id: id, name, plan };
            let created = admin.create_tenant(request).await;
            let created = created.map_err(Failure::from_service(CREATE_FIELD_NAMES))?;
            if created.already_existed {
                context.output.advise("the tenant existed already, with the same values");
            }
            context.output.show(&TenantView::new(created.tenant.unwrap_or_default()))?;
            return Ok(Exit::Done);
        }
        TenantCommand::Get { id } => {
            let tenant = admin.get_tenant(&id).await.map_err(Failure::from_service(FIELD_NAMES))?;
            context.output.show(&TenantView::new(tenant))?;
            return Ok(Exit::Done);
        }
        TenantCommand::Update { id, name, plan, leak_policy, etag, reason, wait } => {
            let named =
                [("name", name.is_some()), ("plan", plan.is_some()), ("leak_policy", leak_policy.is_some())];
            let named = named.into_iter().filter(|(_, given)| *given).map(|(path, _)| path.to_owned());
            let request = proto::UpdateTenantRequest {
                tenant_id: id,
                update_mask: Some(prost_types::FieldMask { paths: named.collect() }),
                name: name.unwrap_or_default(),
                plan: plan.unwrap_or_default(),
                etag,
                reason,
                leak_policy: leak_policy.and_then(|change| change.0),
            };
            let updated = admin.update_tenant(request).await.map_err(Failure::from_service(FIELD_NAMES))?;
            (updated.tenant, updated.revision, wait)
        }
        TenantCommand::Suspend { id, reason, wait } => {
            let suspended = admin.suspend_tenant(&id, &reason).await;
            let suspended = suspended.map_err(Failure::from_service(FIELD_NAMES))?;
            (suspended.tenant, suspended.revision, wait)
        }
        TenantCommand::Delete { id, reason, delete_usage, wait } => {
            let request = proto::DeleteTenantRequest { tenant_id: id, reason, delete_usage };
            return delete(context, &admin, request, &wait).await;
        }
        TenantCommand::Resume { id, wait } => {
            let resumed = admin.resume_tenant(&id).await.map_err(Failure::from_service(FIELD_NAMES))?;
            (resumed.tenant, resumed.revision, wait)
        }
        TenantCommand::List { name, limit } => {
            let page = async |page_size, page_token| {
                let name_prefix = name.clone();
                let request = proto::ListTenantsRequest { page_size, page_token, name_prefix };
                let page = admin.list_tenants(request).await?;
                let tenants = page.tenants.into_iter().map(TenantView::new);
                Ok((tenants.collect(), page.next_page_token))
            };
            return listing::print_list(context.output, limit, FIELD_NAMES, page).await;
        }
    };
    wait::show(context, &wait, TenantView::new(tenant.unwrap_or_default()), revision).await
}

/// Repeats the call until the tenant is deleted: each deletes a bounded number of rows.
async fn delete(
    context: &Context,
    admin: &AdminClient,
    request: proto::DeleteTenantRequest,
    wait: &Wait,
) -> Result<Exit, Failure> {
    let mut view = DeletionView::new(request.tenant_id.clone());
    loop {
        let step = with_retries(async || admin.delete_tenant(request.clone()).await).await;
        let step = step.map_err(|error| {
            if view.is_begun() {
                context.output.note("a part is deleted; run the command again to continue");
            }
            Failure::from_service(FIELD_NAMES)(error)
        })?;
        view.add(&step);
        if step.complete {
            return wait::show(context, wait, view, step.revision).await;
        }
    }
}
