//! The benchmark cases.

mod cache;
mod connections;
mod cross_check;
mod front_doors;
mod latency;
mod limits;
mod many;
mod memory;
mod misses;
mod near_cache;
mod profile;
mod startup;
mod unary;

use std::{path::PathBuf, time::Duration};

pub use self::cache::run_part as run_cache_part;

use prost::Message as _;
use tenant_auth_proto::v1;

use crate::{
    cpu_accounting::{CpuSample, CpuShares},
    load::LoadOutcome,
    process::Process,
    programs::Programs,
    round_check::{CoreRequirement, Flaw, RoundCounts, find_flaw},
    stats::Rounds,
    table::print_text,
};

/// The settings of a run.
#[derive(Debug)]
pub struct Plan {
    /// The programs to measure.
    pub programs: Programs,
    /// Number of rounds per case.
    pub rounds: usize,
    /// Duration of a round.
    pub time: Duration,
    /// Runs only cases whose name contains this text.
    pub only: Option<String>,
    /// The path of `h2load`, for the comparison with our load generator.
    pub h2load: Option<PathBuf>,
    /// The file for samples of the service under load.
    pub samples: Option<PathBuf>,
}

impl Plan {
    fn includes(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }
}

/// The core of the measured server. The load generator uses the other one, if there is one.
const SERVER_CORE: usize = 0;
/// The core of the load generator.
const LOAD_CORE: usize = 1;
const CONSUME: &str = "/tenantauth.v1.LimitService/Consume";
const VALIDATE_KEY: &str = "/tenantauth.v1.ValidationService/ValidateKey";
const BATCH_VALIDATE_KEYS: &str = "/tenantauth.v1.ValidationService/BatchValidateKeys";
const STREAM_VALIDATE_KEYS: &str = "/tenantauth.v1.ValidationService/StreamValidateKeys";
/// Number of connections, as from a few replicas of a busy API.
const CONNECTION_COUNT: usize = 4;
/// Concurrent requests on each connection.
const STREAMS_PER_CONNECTION: usize = 16;
/// Number of cached keys in the cases with many keys.
const MANY_KEYS: usize = 100_000;

/// Printed in a table instead of a figure that other processes distorted.
const TOO_BUSY: &str = "too busy";

/// Printed if too few rounds can be compared with those of the baseline.
const NO_FIGURE: &str = "–";

/// Rows without a figure, because the machine was too busy in most of their rounds.
#[derive(Debug, Default)]
pub struct MissingFigures(Vec<String>);

impl MissingFigures {
    /// Returns the names of these rows.
    #[must_use]
    pub fn rows(&self) -> &[String] {
        &self.0
    }

    /// Prints below a table which rounds of its rows were excluded, and why.
    fn report<'a>(&mut self, rows: impl IntoIterator<Item = (&'a str, &'a RoundCounts)>) {
        for (name, tally) in rows {
            if !tally.has_enough_rounds() {
                self.0.push(name.to_owned());
            }
            if let (1.., Some(flaw)) = (tally.excluded, tally.flaw) {
                print_text(&format!(
                    "{name}: {} of {} rounds excluded; the last one because {flaw}",
                    tally.excluded,
                    tally.excluded + tally.counted
                ));
            }
        }
    }
}

/// Runs the selected cases and prints a table for each. Returns the rows without a figure.
///
/// # Errors
/// Fails if a server does not start, or a response is wrong.
pub async fn run(plan: &Plan) -> anyhow::Result<MissingFigures> {
    let mut missing = MissingFigures::default();
    let cores = std::thread::available_parallelism()?.get();
    let load_core = LOAD_CORE.min(cores - 1);
    pin_to_core(load_core)?;
    print_text(&format!(
        "{cores} cores; server on core {SERVER_CORE}, load generator on core {load_core}; {} rounds of {:?}; medians ± half the spread",
        plan.rounds, plan.time
    ));
    let mut peak = None;
    if plan.includes("unary") {
        peak = unary::run(plan, &mut missing).await?;
    }
    if plan.includes("limits") {
        limits::run(plan, &mut missing).await?;
        limits::writers::run(plan).await?;
    }
    if plan.includes("doors") {
        front_doors::run(plan, &mut missing).await?;
    }
    if let Some(h2load) = plan.h2load.as_ref().filter(|_| plan.includes("cross-check")) {
        cross_check::run(plan, h2load, &mut missing).await?;
    }
    if plan.includes("many") {
        many::run(plan, &mut missing).await?;
    }
    if plan.includes("latency") {
        latency::run(plan, peak, load_core, &mut missing).await?;
    }
    if plan.includes("misses") {
        misses::run(plan).await?;
    }
    if plan.includes("memory") {
        memory::run(plan).await?;
    }
    if plan.includes("connections") {
        connections::run(plan).await?;
    }
    if plan.includes("startup") {
        startup::run(plan).await?;
    }
    if let Some(samples) = plan.samples.as_ref().filter(|_| plan.includes("profile")) {
        profile::run(plan, samples).await?;
    }
    if plan.includes("cache") {
        cache::run(plan)?;
    }
    if plan.includes("near") {
        near_cache::run()?;
    }
    Ok(missing)
}

/// Binds this process to a core.
fn pin_to_core(core: usize) -> anyhow::Result<()> {
    let this = std::process::id().to_string();
    let status = std::process::Command::new("taskset")
        .args(["-a", "-p", "-c", &core.to_string(), &this])
        .stdout(std::process::Stdio::null())
        .status()?;
    anyhow::ensure!(status.success(), "taskset cannot bind this process to core {core}");
    Ok(())
}

/// The results of a closed loop.
#[derive(Clone, Debug, Default)]
struct Measurement {
    /// Requests per second.
    rate: Rounds,
    /// Server CPU time per request, in microseconds.
    cpu: Rounds,
    /// Share of the core that the server used: clearly below 1, the load generator was the bottleneck.
    busy: Rounds,
    /// Which rounds count.
    tally: RoundCounts,
}

impl Measurement {
    fn measure_round(
        &mut self,
        process: &Process,
        mut load: impl FnMut() -> anyhow::Result<LoadOutcome>,
    ) -> anyhow::Result<()> {
        let round = self.tally.measure(|| measure_round(process, CoreRequirement::Saturated, &mut load))?;
        let of = |value: fn(&Round<LoadOutcome>) -> f64| round.as_ref().map(value);
        self.rate.add(of(|round| round.outcome.answers as f64 / round.outcome.elapsed.as_secs_f64()));
        self.cpu.add(of(|round| round.cpu.as_secs_f64() * 1e6 / round.outcome.answers as f64));
        self.busy.add(of(|round| round.shares.used));
        Ok(())
    }

    /// Returns a row of a table. If there are too few rounds, no cell has a figure.
    fn table_row(&self, name: &str, figures: Vec<String>) -> Vec<String> {
        table_row(name, &self.tally, figures)
    }

    fn core_used(&self) -> String {
        format_core_used(&self.busy)
    }
}

/// The result of a round, and the server's share of its core during it.
struct Round<T> {
    outcome: T,
    /// The server's CPU time.
    cpu: Duration,
    shares: CpuShares,
}

/// Measures a round of a server on its core. If the round does not count, returns why.
fn measure_round<T>(
    process: &Process,
    wants: CoreRequirement,
    load: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<(Round<T>, Option<Flaw>)> {
    measure_round_on(SERVER_CORE, process.id(), wants, load)
}

/// The same for any process on any core.
fn measure_round_on<T>(
    core: usize,
    process: u32,
    wants: CoreRequirement,
    mut load: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<(Round<T>, Option<Flaw>)> {
    let before = CpuSample::sample(process, core)?;
    let outcome = load()?;
    let after = CpuSample::sample(process, core)?;
    let shares = after.shares_since(&before);
    Ok((Round { outcome, cpu: after.cpu_time_since(&before), shares }, find_flaw(&shares, wants)))
}

/// Returns a row of a table: its name, its figures if there are any, and the number of counted rounds.
fn table_row(name: &str, tally: &RoundCounts, figures: Vec<String>) -> Vec<String> {
    let figures = figures
        .into_iter()
        .map(|figure| if tally.has_enough_rounds() { figure } else { TOO_BUSY.to_owned() });
    std::iter::once(name.to_owned()).chain(figures).chain([tally.summary()]).collect()
}

fn format_core_used(busy: &Rounds) -> String {
    busy.median().map_or_else(|| NO_FIGURE.to_owned(), |busy| format!("{:.0} %", busy * 100.0))
}

fn format_median(rounds: &Rounds, digits: usize) -> String {
    let Some(median) = rounds.median() else { return NO_FIGURE.to_owned() };
    format!("{median:.digits$} ±{:.0} %", rounds.uncertainty() * 100.0)
}

/// Returns the median of the rounds' ratios, and their spread.
fn format_ratio(subject: &Rounds, baseline: &Rounds) -> String {
    let ratios = subject.ratios_to(baseline);
    let Some(median) = ratios.median().filter(|_| ratios.has_most_values()) else {
        return NO_FIGURE.to_owned();
    };
    format!("{median:.2}× ±{:.0} %", ratios.uncertainty() * 100.0)
}

/// Returns whether a message is the response of the empty handler.
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
