//! `tenantctl limit …`

mod set;

use std::io::IsTerminal as _;

use clap::{Args, Subcommand};
use tenant_auth_client::proto;

use self::set::Set;
use super::{
    Context,
    wait::{self, Wait},
};
use crate::{
    args::{Limit, LimitHolder, LimitSubject, ListedSubject, limit_rule},
    exit::Exit,
    failure::{Failure, FieldNames},
    listing,
    retry::with_retries,
    view::{AddedCreditsView, DeletedLimitView, LimitStatesView, LimitView},
};

#[derive(Debug, Subcommand)]
pub(crate) enum LimitCommand {
    /// Set a limit of a plan, a tenant or a key: create it, or replace the one with this name
    ///
    /// What was used before counts on, unless the kind or the window changes.
    Set(Box<Set>),

    /// Show a limit
    Get {
        #[command(flatten)]
        subject: LimitSubject,

        /// Name of the limit
        name: String,
    },

    /// List the limits of a plan, a tenant or a key, or all limits, by subject and name
    List {
        #[command(flatten)]
        subject: ListedSubject,

        #[command(flatten)]
        limit: Limit,
    },

    /// Delete a limit; what was used is forgotten
    Delete {
        #[command(flatten)]
        subject: LimitSubject,

        /// Name of the limit
        name: String,

        #[command(flatten)]
        wait: Wait,
    },

    /// Show what is used of the limits that apply to a tenant or a key
    ///
    /// USED is the first part of each bar, and LEFT the last. What replicas hold (LEASED) and reservations hold (RESERVED) is
    /// between the two: it may still be admitted, or be given back.
    State {
        #[command(flatten)]
        holder: LimitHolder,
    },

    /// Add credits to a limit of a tenant or a key, or take some away
    AddCredits(AddCredits),
}

#[derive(Debug, Args)]
pub(crate) struct AddCredits {
    #[command(flatten)]
    holder: LimitHolder,

    /// Name of the limit
    name: String,

    /// The amount; negative to take credits away, at most down to what is used
    #[arg(allow_negative_numbers = true, value_parser = limit_rule::parse_amount)]
    amount: i64,

    /// Unique id of this adjustment, 1 to 128 characters; with the same id, a repeated command counts once
    #[arg(long)]
    id: String,

    /// Reason, for the audit log
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,

    #[command(flatten)]
    wait: Wait,
}

const FIELD_NAMES: FieldNames = &[
    ("subject.plan", "--plan"),
    ("subject.tenant_id", "--tenant"),
    ("subject.key_id", "--key-id"),
    ("tenant_id", "--tenant"),
    ("key_id", "--key-id"),
    ("name", "NAME"),
    ("amount", "AMOUNT"),
    ("adjustment_id", "--id"),
    ("reason", "--reason"),
];

pub(super) async fn run(context: &Context, command: LimitCommand) -> Result<Exit, Failure> {
    let admin = context.client()?.admin();
    match command {
        LimitCommand::Set(command) => set::run(context, *command).await,
        LimitCommand::Get { subject, name } => {
            let limit = admin.get_limit(subject.to_message(), &name).await;
            context.output.show(&LimitView::new(limit.map_err(Failure::from_service(FIELD_NAMES))?))?;
            Ok(Exit::Done)
        }
        LimitCommand::List { subject, limit } => {
            let page = async |page_size, page_token| {
                let request =
                    proto::ListLimitsRequest { subject: subject.to_message(), page_size, page_token };
                let page = admin.list_limits(request).await?;
                Ok((page.limits.into_iter().map(LimitView::new).collect(), page.next_page_token))
            };
            listing::print_list(context.output, limit, FIELD_NAMES, page).await
        }
        LimitCommand::Delete { subject, name, wait } => {
            let subject = subject.to_message();
            let deleted = with_retries(async || admin.delete_limit(subject.clone(), &name).await).await;
            let deleted = deleted.map_err(Failure::from_service(FIELD_NAMES))?;
            let view = DeletedLimitView { name, existed: deleted.existed };
            wait::show(context, &wait, view, deleted.revision).await
        }
        LimitCommand::State { holder } => {
            let states = context.client()?.limit_state(holder.owner()).await;
            let states = states.map_err(Failure::from_service(FIELD_NAMES))?;
            context.output.show(&LimitStatesView::new(states, std::io::stdout().is_terminal()))?;
            Ok(Exit::Done)
        }
        LimitCommand::AddCredits(command) => add_credits(context, command).await,
    }
}

async fn add_credits(context: &Context, command: AddCredits) -> Result<Exit, Failure> {
    let admin = context.client()?.admin();
    let request = proto::AddCreditsRequest {
        subject: Some(command.holder.to_message()),
        name: command.name.clone(),
        amount: command.amount,
        adjustment_id: command.id,
        reason: command.reason,
    };
    let added = with_retries(async || admin.add_credits(request.clone()).await).await;
    let added = added.map_err(Failure::from_service(FIELD_NAMES))?;
    if added.already_added {
        context.output.advise("an earlier command with this id had made the adjustment");
    }
    let revision = added.revision;
    wait::show(context, &command.wait, AddedCreditsView::new(command.name, &added), revision).await
}
