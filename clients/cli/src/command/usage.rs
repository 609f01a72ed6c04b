//! `tenantctl usage …`

use std::{io::IsTerminal as _, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use tenant_auth_client::proto;

use super::Context;
use crate::{
    exit::Exit,
    failure::{Failure, FieldNames},
    page,
    retry::with_retries,
    time::{self, Moment},
    view::{RecordedView, UsageView},
};

#[derive(Debug, Subcommand)]
pub(crate) enum UsageCommand {
    /// Show the usage of a tenant
    Show(Show),

    /// Record usage of a tenant, for scripts
    ///
    /// An event that is repeated with the same --id is counted once.
    Record(Record),
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Id of the tenant
    tenant: String,

    /// Only this metric
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    metric: String,

    /// Start, such as 2030-01-31T00:00:00Z; default: 2 days before the end for hours, 30 days for days, a year for months
    #[arg(long, value_parser = time::parse_moment, value_name = "RFC3339")]
    from: Option<Moment>,

    /// End; default: now, by the service's clock
    #[arg(long, value_parser = time::parse_moment, value_name = "RFC3339")]
    to: Option<Moment>,

    /// Width of a time bucket, in UTC
    #[arg(long, value_enum, default_value_t = Bucket::Day)]
    bucket: Bucket,

    /// Print comma-separated values instead of text
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Bucket {
    Hour,
    Day,
    Month,
}

#[derive(Debug, Args)]
pub(crate) struct Record {
    /// Id of the tenant
    tenant: String,

    /// Metric: a lower-case name such as api.calls
    #[arg(long, value_name = "NAME")]
    metric: String,

    /// Quantity
    #[arg(long, value_name = "N")]
    quantity: i64,

    /// Time of the event; default: now
    #[arg(long, value_parser = time::parse_moment, value_name = "RFC3339")]
    at: Option<Moment>,

    /// Unique id of this event, 1 to 128 characters
    #[arg(long)]
    id: String,
}

const SHOW_FIELD_NAMES: FieldNames =
    &[("tenant_id", "TENANT"), ("metric", "--metric"), ("start_time", "--from"), ("end_time", "--to")];
const RECORD_FIELD_NAMES: FieldNames = &[("request_id", "--id")];

pub(super) async fn run(context: &Context, command: UsageCommand) -> Result<Exit, Failure> {
    match command {
        UsageCommand::Show(command) => show(context, command).await,
        UsageCommand::Record(command) => record(context, command).await,
    }
}

async fn show(context: &Context, command: Show) -> Result<Exit, Failure> {
    let client = context.client()?;
    let to = match command.to {
        Some(to) => to,
        None => context.now().await?,
    };
    let from = match command.from {
        Some(from) => from,
        None => to.before(command.bucket.default_range()),
    };
    let listing = page::read_all_pages(async |page_size, page_token| {
        let request = proto::QueryUsageRequest {
            tenant_id: command.tenant.clone(),
            metric: command.metric.clone(),
            start_time: Some(from.into()),
            end_time: Some(to.into()),
            bucket: proto::UsageBucket::from(command.bucket).into(),
            page_size,
            page_token,
        };
        let page = client.query_usage_page(request).await?;
        Ok((page.sums, page.next_page_token))
    });
    let listing = listing.await.map_err(Failure::from_service(SHOW_FIELD_NAMES))?;
    let view = UsageView::new(command.tenant, listing, std::io::stdout().is_terminal());
    if command.csv {
        context.output.line(&view.csv()?)?;
    } else {
        context.output.show(&view)?;
    }
    Ok(Exit::Done)
}

async fn record(context: &Context, command: Record) -> Result<Exit, Failure> {
    let client = context.client()?;
    let event = proto::UsageEvent {
        tenant_id: command.tenant,
        metric: command.metric,
        quantity: command.quantity,
        occurred_at: command.at.map(Into::into),
    };
    let recorded = with_retries(async || client.record_usage(&command.id, vec![event.clone()]).await);
    let recorded = recorded.await.map_err(Failure::from_service(RECORD_FIELD_NAMES))?;
    match recorded.rejected.into_iter().next() {
        Some((_, error)) => Err(Failure::from_service(&[])(error)),
        None => {
            context
                .output
                .show(&RecordedView { id: command.id, already_recorded: recorded.already_recorded })?;
            Ok(Exit::Done)
        }
    }
}

impl Bucket {
    /// Returns the default range to show.
    fn default_range(self) -> Duration {
        let days = match self {
            Self::Hour => 2,
            Self::Day => 30,
            Self::Month => 365,
        };
        Duration::from_secs(days * 86_400)
    }
}

impl From<Bucket> for proto::UsageBucket {
    fn from(bucket: Bucket) -> Self {
        match bucket {
            Bucket::Hour => Self::Hour,
            Bucket::Day => Self::Day,
            Bucket::Month => Self::Month,
        }
    }
}
