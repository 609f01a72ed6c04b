//! Profile of a cache hit: samples of the service under load, taken by `perf`.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};

use super::{CONNECTION_COUNT, Plan, SERVER_CORE, STREAMS_PER_CONNECTION, VALIDATE_KEY, is_valid};
use crate::{load::Load, service::Service, table::print_text};

pub(super) async fn run(plan: &Plan, samples: &Path) -> anyhow::Result<()> {
    let service = Service::start(&plan.programs.service, Some(SERVER_CORE), 1).await?;
    let load = Load {
        address: service.process.address,
        path: VALIDATE_KEY,
        bodies: service.requests(),
        connections: CONNECTION_COUNT,
        streams: STREAMS_PER_CONNECTION,
        is_expected: is_valid,
    };
    load.run_closed_loop(plan.time)?;
    let mut perf = Command::new("perf")
        .args(["record", "--quiet", "-F", "1999", "-g", "-p", &service.process.id().to_string(), "-o"])
        .arg(samples)
        .args(["--", "sleep", &format!("{}", plan.time.as_secs_f64())])
        .stdout(Stdio::null())
        .spawn()
        .context("perf cannot be run")?;
    load.run_closed_loop(plan.time)?;
    ensure!(perf.wait()?.success(), "perf failed");
    print_text(&format!("samples of ValidateKey, one key: {}", samples.display()));
    Ok(())
}
