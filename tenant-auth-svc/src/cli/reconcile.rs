//! `reconcile`: compares totals of usage with their events, and repairs them when it is told to.

use std::{process::ExitCode, time::Duration};

use clap::Args;
use uuid::Uuid;

use super::{fail, say, settings::SettingsArgs, start_logging};
use crate::{
    database::{migrate, sql::SqlStore},
    domain::{
        audit::Actor,
        clock::{SharedClock, SystemClock, UnixMillis},
        id::TenantId,
        store::{Call, Change, Lane, StoreError},
        usage::{self, Difference, Hour, Reconciliation, Repaired, Retention, UsageStore as _},
    },
    server::{self, Hop},
};

/// How long one page of the comparison, or one transaction of the repair, may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who repairs, as the audit log has it.
const ACTOR: &str = "tenant-auth-svc reconcile";

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
    #[arg(long, value_name = "RFC3339", value_parser = moment)]
    from: Option<UnixMillis>,
    /// Before this hour [default: to the end]
    #[arg(long, value_name = "RFC3339", value_parser = moment)]
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
    let hop = match server::hop(config.database, &clock) {
        Ok(hop) => hop,
        Err(error) => return fail(1, &error.to_string()),
    };
    if let Err(error) = migrate::verify(&hop).await {
        return fail(1, &error.to_string());
    }
    let store = SqlStore::new(hop, config.keys.peppers);
    let retention = config.usage.retention;
    let complete = match store.usage_complete_from(call(), retention.time()).await {
        Ok(complete) => complete,
        Err(error) => return fail(1, &error.to_string()),
    };
    let from = args.from.map_or(complete, Hour::of);
    if from < complete {
        return fail(
            2,
            &format!(
                "--from lies before {}: the events of earlier hours are not all kept any more \
                 (TENANT_AUTH_USAGE_RETENTION), so they cannot be compared",
                shown(complete)
            ),
        );
    }
    let hours = (from, Hour::from(args.to.unwrap_or(UnixMillis::MAX)));
    let repair = args.repair && !args.dry_run;
    let mut told = Told::default();
    match reconcile(&store, args.tenant, (hours, retention), repair, &clock, &mut told).await {
        Ok(tenants) => told.end(tenants, repair),
        Err(error) => {
            told.end_early();
            fail(1, &error.to_string())
        }
    }
}

async fn reconcile(
    store: &SqlStore<Hop>,
    tenant: Option<TenantId>,
    (hours, retention): ((Hour, Hour), Retention),
    repair: bool,
    clock: &SharedClock,
    told: &mut Told,
) -> Result<usize, StoreError> {
    let mut reconciliation = Reconciliation::begin(store, tenant, hours, retention, call()).await?;
    while let Some(differences) = reconciliation.next(call).await? {
        told.differing += differences.len();
        if !repair {
            differences.iter().for_each(told_difference);
            continue;
        }
        let change = || Change {
            actor: Actor { caller: ACTOR.to_owned(), request_id: Uuid::now_v7().to_string() },
            at: clock.now(),
        };
        for page in usage::repairs(&differences) {
            // A lane whose writes are sent once more when their answer is lost.
            let write = Call::within(Lane::Admin, PATIENCE);
            let repaired = store.repair_usage(write, page, retention.time(), &change()).await?;
            told.repaired += repaired.len();
            told_repairs(page, &repaired);
        }
    }
    Ok(reconciliation.tenants())
}

/// How much was told so far.
#[derive(Debug, Default)]
struct Told {
    differing: usize,
    repaired: usize,
}

impl Told {
    fn end(&self, tenants: usize, repaired: bool) -> ExitCode {
        let Self { differing, repaired: set } = self;
        match (differing, repaired) {
            (0, _) => say(&format!("totals of {tenants} tenants compared: all are the sums of their events")),
            (_, true) => say(&format!(
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

    fn end_early(&self) {
        if self.repaired > 0 {
            say(&format!("{} totals were repaired before the comparison failed", self.repaired));
        }
    }
}

fn told_difference(difference: &Difference) {
    say(&format!(
        "{} {} {}: the total is {}, its events add up to {}",
        difference.tenant_id,
        difference.metric.as_str(),
        shown(difference.hour),
        difference.total,
        difference.events
    ));
}

fn told_repairs(page: &[Difference], repaired: &[Repaired]) {
    for difference in page {
        let what =
            format!("{} {} {}", difference.tenant_id, difference.metric.as_str(), shown(difference.hour));
        let found =
            repaired.iter().find(|one| (one.hour, &one.metric) == (difference.hour, &difference.metric));
        say(&match found {
            Some(Repaired { before, after, .. }) => {
                format!("{what}: the total was {before} and is {after} now")
            }
            None => format!(
                "{what}: left as it is: the total is right by now, or its events are not all kept any more"
            ),
        });
    }
}

fn call() -> Call {
    Call::within(Lane::Maintenance, PATIENCE)
}

fn moment(text: &str) -> Result<UnixMillis, String> {
    let refused = |_| "must be a moment such as 2026-10-01T00:00:00Z".to_owned();
    let time = humantime::parse_rfc3339_weak(text).map_err(refused)?;
    let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(UnixMillis(0).plus(since))
}

fn shown(hour: Hour) -> String {
    let since = Duration::from_millis(u64::try_from(hour.start().0).unwrap_or_default());
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string()
}
