//! `reconcile`.

use std::{process::ExitCode, time::Duration};

use clap::Args;

use super::{fail, say, settings::SettingsArgs, start_logging};
use crate::{
    app,
    domain::{
        clock::{SharedClock, SystemClock, UnixMillis},
        id::TenantId,
        store::{Call, Lane},
        usage::{self, Difference, Hour},
    },
    store::{migrate, sql::SqlStore},
};

/// How long the comparison of one tenant may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to compare.
#[derive(Args, Debug)]
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
}

pub(super) async fn run(args: ReconcileArgs) -> ExitCode {
    let config = match args.settings.read() {
        Ok((config, _)) => config,
        Err(error) => return fail(2, &error.to_string()),
    };
    let _log = start_logging(&config.log);
    let clock: SharedClock = SystemClock::shared();
    let complete = config.usage.retention.complete_from(clock.now());
    let from = args.from.map_or(complete, Hour::of);
    if from < complete {
        return fail(
            2,
            "--from lies before the time for which events are kept (TENANT_AUTH_USAGE_RETENTION)",
        );
    }
    let to = Hour::from(args.to.unwrap_or(UnixMillis::MAX));
    let hop = match app::hop(config.database, &clock) {
        Ok(hop) => hop,
        Err(error) => return fail(1, &error.to_string()),
    };
    if let Err(error) = migrate::verify(&hop).await {
        return fail(1, &error.to_string());
    }
    let store = SqlStore::new(hop, config.keys.peppers);
    let call = || Call::within(Lane::Maintenance, PATIENCE);
    match usage::reconcile(&store, args.tenant, (from, to), call).await {
        Ok(found) => told(found.tenants, &found.differences),
        Err(error) => fail(1, &error.to_string()),
    }
}

fn told(tenants: usize, differences: &[Difference]) -> ExitCode {
    for difference in differences {
        say(&format!(
            "{} {} {}: the total is {}, its events add up to {}",
            difference.tenant_id,
            difference.metric.as_str(),
            shown(difference.hour),
            difference.total,
            difference.events
        ));
    }
    if differences.is_empty() {
        say(&format!("totals of {tenants} tenants compared: all are the sums of their events"));
        ExitCode::SUCCESS
    } else {
        fail(1, &format!("totals of {tenants} tenants compared: {} differ", differences.len()))
    }
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
