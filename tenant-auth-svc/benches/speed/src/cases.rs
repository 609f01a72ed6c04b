//! What is measured.

mod cross_check;
mod latency;
mod many;
mod maps;
mod memory;
mod misses;
mod near;
mod profile;
mod unary;

use std::{path::PathBuf, time::Duration};

use prost::Message as _;
use tenant_auth_proto::v1;

use crate::{load::Outcome, process::Process, programs::Programs, stats::Rounds, table::say};

/// How to measure.
#[derive(Debug)]
pub struct Plan {
    /// What.
    pub programs: Programs,
    /// How often.
    pub rounds: usize,
    /// How long each time.
    pub time: Duration,
    /// Only cases whose name holds this.
    pub only: Option<String>,
    /// Where `h2load` is, to compare our own load with.
    pub h2load: Option<PathBuf>,
    /// Where to write samples of the service under load.
    pub samples: Option<PathBuf>,
}

impl Plan {
    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }
}

/// The core that a measured server has for itself; the load comes from the other one, where there is one.
const SERVER_CORE: usize = 0;
/// The core of the load.
const LOAD_CORE: usize = 1;
const VALIDATE_KEY: &str = "/tenantauth.v1.ValidationService/ValidateKey";
const BATCH_VALIDATE_KEYS: &str = "/tenantauth.v1.ValidationService/BatchValidateKeys";
const STREAM_VALIDATE_KEYS: &str = "/tenantauth.v1.ValidationService/StreamValidateKeys";
/// Connections, as from a few replicas of a busy API.
const CONNECTIONS: usize = 4;
/// Requests at once on each connection.
const STREAMS: usize = 16;
/// Keys in memory, where it is about many.
const MANY: usize = 100_000;

/// Measures everything that is wanted, and prints a table for each case.
///
/// # Errors
/// When a server does not start, or an answer is wrong.
pub async fn run(plan: &Plan) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    bind_to(LOAD_CORE.min(cores - 1))?;
    say(&format!(
        "{cores} cores; the server on core {SERVER_CORE}, the load on core {}; {} rounds of {:?}; medians ± half the spread",
        LOAD_CORE.min(cores - 1),
        plan.rounds,
        plan.time
    ));
    let mut peak = None;
    if plan.wants("unary") {
        peak = Some(unary::run(plan).await?);
    }
    if let Some(h2load) = plan.h2load.as_ref().filter(|_| plan.wants("cross-check")) {
        cross_check::run(plan, h2load).await?;
    }
    if plan.wants("many") {
        many::run(plan).await?;
    }
    if plan.wants("latency") {
        latency::run(plan, peak).await?;
    }
    if plan.wants("misses") {
        misses::run(plan).await?;
    }
    if plan.wants("memory") {
        memory::run(plan).await?;
    }
    if let Some(samples) = plan.samples.as_ref().filter(|_| plan.wants("profile")) {
        profile::run(plan, samples).await?;
    }
    if plan.wants("maps") {
        maps::run(plan);
    }
    if plan.wants("near") {
        near::run()?;
    }
    Ok(())
}

/// Binds this process to a core.
fn bind_to(core: usize) -> anyhow::Result<()> {
    let this = std::process::id().to_string();
    let status = std::process::Command::new("taskset")
        .args(["-a", "-p", "-c", &core.to_string(), &this])
        .stdout(std::process::Stdio::null())
        .status()?;
    anyhow::ensure!(status.success(), "taskset cannot bind this process to core {core}");
    Ok(())
}

/// What one round of a closed loop came to.
#[derive(Clone, Debug, Default)]
struct Measured {
    /// Requests a second.
    rate: Rounds,
    /// Microseconds of the server's processor time for a request.
    cpu: Rounds,
    /// Share of the core that the server used: below 1, the load was the bottleneck.
    busy: Rounds,
}

impl Measured {
    fn round(
        &mut self,
        process: &Process,
        load: impl FnOnce() -> anyhow::Result<Outcome>,
    ) -> anyhow::Result<()> {
        let before = process.cpu()?;
        let outcome = load()?;
        let cpu = process.cpu()? - before;
        let took = outcome.took.as_secs_f64();
        self.rate.add(outcome.answers as f64 / took);
        self.cpu.add(cpu.as_secs_f64() * 1e6 / outcome.answers as f64);
        self.busy.add(cpu.as_secs_f64() / took);
        Ok(())
    }
}

fn shown(rounds: &Rounds, digits: usize) -> String {
    format!("{:.digits$} ±{:.0} %", rounds.median(), rounds.uncertainty() * 100.0)
}

/// The median of the rounds' ratios, and their spread.
fn ratio(subject: &Rounds, baseline: &Rounds) -> String {
    let ratios = subject.over(baseline);
    format!("{:.2}× ±{:.0} %", ratios.median(), ratios.uncertainty() * 100.0)
}

/// What a handler that does nothing answers.
fn is_empty(message: &[u8]) -> bool {
    message.is_empty()
}

fn is_valid(message: &[u8]) -> bool {
    v1::ValidateKeyResponse::decode(message).is_ok_and(|answer| answer.verdict() == v1::Verdict::Valid)
}

fn is_valid_batch(message: &[u8]) -> bool {
    use v1::batch_validate_keys_result::Result as Outcome;
    let Ok(answer) = v1::BatchValidateKeysResponse::decode(message) else { return false };
    let is_valid =
        |outcome: &_| matches!(outcome, Outcome::Response(answer) if answer.verdict() == v1::Verdict::Valid);
    answer.results.iter().all(|item| item.result.as_ref().is_some_and(is_valid))
}
