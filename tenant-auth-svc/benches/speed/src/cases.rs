//! What is measured.

mod cross_check;
mod latency;
mod many;
mod maps;
mod memory;
mod misses;
mod near_cache;
mod profile;
mod unary;

use std::{path::PathBuf, time::Duration};

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
    fn includes(&self, name: &str) -> bool {
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
const CONNECTION_COUNT: usize = 4;
/// Requests at once on each connection.
const STREAMS_PER_CONNECTION: usize = 16;
/// Keys in memory, where it is about many.
const MANY_KEYS: usize = 100_000;

/// What stands in a table where a figure would be one about other processes.
const TOO_BUSY: &str = "too busy";

/// What stands there where too few rounds can be compared with those of the baseline.
const NO_FIGURE: &str = "–";

/// Rows that have no figure, because the machine was too busy in most of their rounds.
#[derive(Debug, Default)]
pub struct MissingFigures(Vec<String>);

impl MissingFigures {
    /// How they are called.
    #[must_use]
    pub fn rows(&self) -> &[String] {
        &self.0
    }

    /// Says below a table which rounds of its rows were left out, and why.
    fn report<'a>(&mut self, rows: impl IntoIterator<Item = (&'a str, &'a RoundCounts)>) {
        for (name, tally) in rows {
            if !tally.has_enough_rounds() {
                self.0.push(name.to_owned());
            }
            if let (1.., Some(flaw)) = (tally.excluded, tally.flaw) {
                print_text(&format!(
                    "{name}: {} of {} rounds left out; of the last one, {flaw}",
                    tally.excluded,
                    tally.excluded + tally.counted
                ));
            }
        }
    }
}

/// Measures everything that is wanted, and prints a table for each case. Gives the rows that have no figure.
///
/// # Errors
/// When a server does not start, or an answer is wrong.
pub async fn run(plan: &Plan) -> anyhow::Result<MissingFigures> {
    let mut missing = MissingFigures::default();
    let cores = std::thread::available_parallelism()?.get();
    let load_core = LOAD_CORE.min(cores - 1);
    pin_to_core(load_core)?;
    print_text(&format!(
        "{cores} cores; the server on core {SERVER_CORE}, the load on core {load_core}; {} rounds of {:?}; medians ± half the spread",
        plan.rounds, plan.time
    ));
    let mut peak = None;
    if plan.includes("unary") {
        peak = unary::run(plan, &mut missing).await?;
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
    if let Some(samples) = plan.samples.as_ref().filter(|_| plan.includes("profile")) {
        profile::run(plan, samples).await?;
    }
    if plan.includes("maps") {
        maps::run(plan, load_core, &mut missing)?;
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

/// What one round of a closed loop came to.
#[derive(Clone, Debug, Default)]
struct Measurement {
    /// Requests a second.
    rate: Rounds,
    /// Microseconds of the server's processor time for a request.
    cpu: Rounds,
    /// Share of the core that the server used: below 1, the load was the bottleneck.
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

    /// A line of a table: of cells with figures, or of none that has one.
    fn table_row(&self, name: &str, figures: Vec<String>) -> Vec<String> {
        table_row(name, &self.tally, figures)
    }

    fn core_used(&self) -> String {
        format_core_used(&self.busy)
    }
}

/// What a round came to, and what the server had of its core meanwhile.
struct Round<T> {
    outcome: T,
    /// The server's processor time.
    cpu: Duration,
    shares: CpuShares,
}

/// Measures a round of a server on its core, and says why it does not count, if it does not.
fn measure_round<T>(
    process: &Process,
    wants: CoreRequirement,
    load: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<(Round<T>, Option<Flaw>)> {
    measure_round_on(SERVER_CORE, process.id(), wants, load)
}

/// The same of any process on any core.
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

/// A line of a table: its name, its figures if there are any, and how many rounds they rest on.
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

/// The median of the rounds' ratios, and their spread.
fn format_ratio(subject: &Rounds, baseline: &Rounds) -> String {
    let ratios = subject.ratios_to(baseline);
    let Some(median) = ratios.median().filter(|_| ratios.has_most_values()) else {
        return NO_FIGURE.to_owned();
    };
    format!("{median:.2}× ±{:.0} %", ratios.uncertainty() * 100.0)
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
