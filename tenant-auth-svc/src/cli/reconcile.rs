//! `reconcile`: compares usage totals with their events, and repairs them with `--repair`.

use std::{process::ExitCode, time::Duration};

use clap::Args;
use uuid::Uuid;

use super::{fail, print_line, settings::SettingsArgs, start_logging};
use crate::{
    database::{client::DatabaseClient, migrate, sql::SqlStore},
    domain::{
        audit::Actor,
        clock::{SharedClock, SystemClock, UnixMillis},
        id::TenantId,
        store::{Call, Change, Lane, StoreError},
        usage::{
            self, Hour, Reconciliation, RepairedTotal, TotalDifference, UsageRetention, UsageStore as _,
        },
    },
    server::{self},
};

/// Timeout of one page of the comparison, or of one transaction of the repair.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// The actor of a repair in the audit log.
const AUDIT_ACTOR: &str = "tenant-auth-svc reconcile";

const EXIT_CODES: &str = "\
Exit codes: 0 every compared total equals the sum of its events, or was set to it; 1 totals differ and were not repaired, or the \
database did not respond; 2 invalid command line or configuration.

Hours whose events were deleted after TENANT_AUTH_USAGE_RETENTION are neither compared nor repaired: their totals are right, and \
their events are incomplete. The service may keep writing meanwhile: each total is set to the sum of its events at that time, in one \
transaction. A total may also differ because events were deleted with SQL; a repair then lowers the total. Check the differences before \
you repair. Each repair adds an entry `usage.repair` to the audit log, with the total before and after.";

/// What to compare.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(super) struct ReconcileArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Only this tenant
    #[arg(long, value_name = "ID", value_parser = TenantId::parse)]
    tenant: Option<TenantId>,
    /// From this hour on, such as 2026-10-01T00:00:00Z [default: the first hour whose events are all kept]
    #[arg(long, value_name = "RFC3339", value_parser = parse_timestamp)]
    from: Option<UnixMillis>,
    /// Before this hour [default: no limit]
    #[arg(long, value_name = "RFC3339", value_parser = parse_timestamp)]
    to: Option<UnixMillis>,
    /// Only report the differences; the default
    #[arg(long, conflicts_with = "repair")]
    dry_run: bool,
    /// Set each total that differs to the sum of its events, and record the repair in the audit log
    #[arg(long)]
    repair: bool,
}

pub(super) async fn run(args: ReconcileArgs) -> ExitCode {
    let config = match args.settings.read() {
        Ok((config, _)) => config,
        Err(error) => return fail(2, &error.to_string()),
    };
    let _log = start_logging(&config.log);
    let clock: SharedClock = SystemClock::shared();
    let database_client = match server::build_database_client(config.database, &clock) {
        Ok(database_client) => database_client,
        Err(error) => return fail(1, &error.to_string()),
    };
    if let Err(error) = migrate::verify(&database_client).await {
        return fail(1, &error.to_string());
    }
    let store = SqlStore::new(database_client, config.keys.peppers);
    let retention = config.usage.retention;
    let first_complete_hour = match store.first_complete_hour(page_call(), retention.duration()).await {
        Ok(first_complete_hour) => first_complete_hour,
        Err(error) => return fail(1, &error.to_string()),
    };
    let from = args.from.map_or(first_complete_hour, Hour::floor);
    if from < first_complete_hour {
        return fail(
            2,
            &format!(
                "--from is before {}: not all events of earlier hours are kept \
                 (TENANT_AUTH_USAGE_RETENTION), so they cannot be compared",
                format_hour(first_complete_hour)
            ),
        );
    }
    let hours = (from, Hour::ceil(args.to.unwrap_or(UnixMillis::MAX)));
    let repair = args.repair && !args.dry_run;
    let mut summary = ReconcileSummary::default();
    match reconcile(&store, args.tenant, (hours, retention), repair, &clock, &mut summary).await {
        Ok(tenants) => summary.print(tenants, repair),
        Err(error) => {
            summary.print_partial();
            fail(1, &error.to_string())
        }
    }
}

async fn reconcile(
    store: &SqlStore<DatabaseClient>,
    tenant: Option<TenantId>,
    (hours, retention): ((Hour, Hour), UsageRetention),
    repair: bool,
    clock: &SharedClock,
    summary: &mut ReconcileSummary,
) -> Result<usize, StoreError> {
    let mut reconciliation = Reconciliation::start(store, tenant, hours, retention, page_call()).await?;
    while let Some(differences) = reconciliation.next_differences(page_call).await? {
        summary.differing += differences.len();
        if !repair {
            differences.iter().for_each(print_difference);
            continue;
        }
        let change = || Change {
            actor: Actor { caller: AUDIT_ACTOR.to_owned(), request_id: Uuid::now_v7().to_string() },
            at: clock.now(),
        };
        for page in usage::repair_batches(&differences) {
            // The Admin lane, because its writes are retried when their response is lost.
            let write = Call::within(Lane::Admin, CALL_TIMEOUT);
            let repaired = store.repair_usage(write, page, retention.duration(), &change()).await?;
            summary.repaired += repaired.len();
            print_repairs(page, &repaired);
        }
    }
    Ok(reconciliation.compared_tenants())
}

/// Counts of what was printed so far.
#[derive(Debug, Default)]
struct ReconcileSummary {
    differing: usize,
    repaired: usize,
}

impl ReconcileSummary {
    fn print(&self, tenants: usize, repaired: bool) -> ExitCode {
        let Self { differing, repaired: set } = self;
        match (differing, repaired) {
            (0, _) => print_line(&format!(
                "totals of {tenants} tenants compared: each equals the sum of its events"
            )),
            (_, true) => print_line(&format!(
                "totals of {tenants} tenants compared: {differing} differed, {set} were repaired, each now equals the sum of its events"
            )),
            (_, false) => {
                return fail(
                    1,
                    &format!(
                        "totals of {tenants} tenants compared: {differing} differ; use --repair to set them to the sums of their events"
                    ),
                );
            }
        }
        ExitCode::SUCCESS
    }

    fn print_partial(&self) {
        if self.repaired > 0 {
            print_line(&format!("{} totals were repaired before the comparison failed", self.repaired));
        }
    }
}

fn print_difference(difference: &TotalDifference) {
    print_line(&format!(
        "{} {} {}: the total is {}, the sum of its events is {}",
        difference.tenant_id,
        difference.metric.as_str(),
        format_hour(difference.hour),
        difference.total,
        difference.events
    ));
}

fn print_repairs(page: &[TotalDifference], repaired: &[RepairedTotal]) {
    for difference in page {
        let subject = format!(
            "{} {} {}",
            difference.tenant_id,
            difference.metric.as_str(),
            format_hour(difference.hour)
        );
        let found =
            repaired.iter().find(|one| (one.hour, &one.metric) == (difference.hour, &difference.metric));
        print_line(&match found {
            Some(RepairedTotal { before, after, .. }) => {
                format!("{subject}: the total was {before} and is now {after}")
            }
            None => format!(
                "{subject}: not changed: the total is correct now, or not all of its events are kept any more"
            ),
        });
    }
}

fn page_call() -> Call {
    Call::within(Lane::Maintenance, CALL_TIMEOUT)
}

fn parse_timestamp(text: &str) -> Result<UnixMillis, String> {
    let invalid = |_| "must be an RFC 3339 timestamp such as 2026-10-01T00:00:00Z".to_owned();
    let time = humantime::parse_rfc3339_weak(text).map_err(invalid)?;
    let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(UnixMillis(0).plus(since))
}

fn format_hour(hour: Hour) -> String {
    let since = Duration::from_millis(u64::try_from(hour.start().0).unwrap_or_default());
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string()
}
