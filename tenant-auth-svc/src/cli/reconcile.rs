//! `reconcile`: compares totals of usage with their events, and repairs them when it is told to.

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

/// How long one page of the comparison, or one transaction of the repair, may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Who repairs, as the audit log has it.
const AUDIT_ACTOR: &str = "tenant-auth-svc reconcile";

const EXIT_CODES: &str = "\
Exit codes: 0 every total compared is the sum of its events, or was set to it; 1 totals differ and were not repaired, or the database \
gave no answer; 2 the command line or the configuration is wrong.

Hours whose events were deleted after TENANT_AUTH_USAGE_RETENTION are neither compared nor repaired: there the total is right and the \
events are not. The service may go on writing: each total is set to the sum that its events have at that moment, in one transaction. \
A total may also differ because events were deleted by hand; then a repair lowers it. Look at the differences first. Each repair is an \
entry `usage.repair` of the audit log, with the total before and after.";

/// What to compare.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(super) struct ReconcileArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Only this tenant
    #[arg(long, value_name = "ID", value_parser = TenantId::parse)]
    tenant: Option<TenantId>,
    /// From this hour on, such as 2026-10-01T00:00:00Z [default: as far back as events are kept]
    #[arg(long, value_name = "RFC3339", value_parser = parse_moment)]
    from: Option<UnixMillis>,
    /// Before this hour [default: to the end]
    #[arg(long, value_name = "RFC3339", value_parser = parse_moment)]
    to: Option<UnixMillis>,
    /// Only tell the differences; the default
    #[arg(long, conflicts_with = "repair")]
    dry_run: bool,
    /// Set each total that differs to the sum of its events, and write that into the audit log
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
    let hop = match server::build_database_client(config.database, &clock) {
        Ok(hop) => hop,
        Err(error) => return fail(1, &error.to_string()),
    };
    if let Err(error) = migrate::verify(&hop).await {
        return fail(1, &error.to_string());
    }
    let store = SqlStore::new(hop, config.keys.peppers);
    let retention = config.usage.retention;
    let complete = match store.first_complete_hour(page_call(), retention.duration()).await {
        Ok(complete) => complete,
        Err(error) => return fail(1, &error.to_string()),
    };
    let from = args.from.map_or(complete, Hour::floor);
    if from < complete {
        return fail(
            2,
            &format!(
                "--from lies before {}: the events of earlier hours are not all kept any more \
                 (TENANT_AUTH_USAGE_RETENTION), so they cannot be compared",
                format_hour(complete)
            ),
        );
    }
    let hours = (from, Hour::ceil(args.to.unwrap_or(UnixMillis::MAX)));
    let repair = args.repair && !args.dry_run;
    let mut told = ReconcileSummary::default();
    match reconcile(&store, args.tenant, (hours, retention), repair, &clock, &mut told).await {
        Ok(tenants) => told.print(tenants, repair),
        Err(error) => {
            told.print_partial();
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
    told: &mut ReconcileSummary,
) -> Result<usize, StoreError> {
    let mut reconciliation = Reconciliation::start(store, tenant, hours, retention, page_call()).await?;
    while let Some(differences) = reconciliation.next_differences(page_call).await? {
        told.differing += differences.len();
        if !repair {
            differences.iter().for_each(print_difference);
            continue;
        }
        let change = || Change {
            actor: Actor { caller: AUDIT_ACTOR.to_owned(), request_id: Uuid::now_v7().to_string() },
            at: clock.now(),
        };
        for page in usage::repair_batches(&differences) {
            // A lane whose writes are sent once more when their answer is lost.
            let write = Call::within(Lane::Admin, CALL_TIMEOUT);
            let repaired = store.repair_usage(write, page, retention.duration(), &change()).await?;
            told.repaired += repaired.len();
            print_repairs(page, &repaired);
        }
    }
    Ok(reconciliation.compared_tenants())
}

/// How much was told so far.
#[derive(Debug, Default)]
struct ReconcileSummary {
    differing: usize,
    repaired: usize,
}

impl ReconcileSummary {
    fn print(&self, tenants: usize, repaired: bool) -> ExitCode {
        let Self { differing, repaired: set } = self;
        match (differing, repaired) {
            (0, _) => {
                print_line(&format!("totals of {tenants} tenants compared: all are the sums of their events"))
            }
            (_, true) => print_line(&format!(
                "totals of {tenants} tenants compared: {differing} differed, {set} were repaired, all are the sums of their events"
            )),
            (_, false) => {
                return fail(
                    1,
                    &format!(
                        "totals of {tenants} tenants compared: {differing} differ; --repair sets them to the sums of their events"
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
        "{} {} {}: the total is {}, its events add up to {}",
        difference.tenant_id,
        difference.metric.as_str(),
        format_hour(difference.hour),
        difference.total,
        difference.events
    ));
}

fn print_repairs(page: &[TotalDifference], repaired: &[RepairedTotal]) {
    for difference in page {
        let what = format!(
            "{} {} {}",
            difference.tenant_id,
            difference.metric.as_str(),
            format_hour(difference.hour)
        );
        let found =
            repaired.iter().find(|one| (one.hour, &one.metric) == (difference.hour, &difference.metric));
        print_line(&match found {
            Some(RepairedTotal { before, after, .. }) => {
                format!("{what}: the total was {before} and is {after} now")
            }
            None => format!(
                "{what}: left as it is: the total is right by now, or its events are not all kept any more"
            ),
        });
    }
}

fn page_call() -> Call {
    Call::within(Lane::Maintenance, CALL_TIMEOUT)
}

fn parse_moment(text: &str) -> Result<UnixMillis, String> {
    let refused = |_| "must be a moment such as 2026-10-01T00:00:00Z".to_owned();
    let time = humantime::parse_rfc3339_weak(text).map_err(refused)?;
    let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(UnixMillis(0).plus(since))
}

fn format_hour(hour: Hour) -> String {
    let since = Duration::from_millis(u64::try_from(hour.start().0).unwrap_or_default());
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string()
}
