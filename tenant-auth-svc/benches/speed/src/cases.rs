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

use crate::{
    books::{Books, Shares},
    judge::{Flaw, Tally, Wants, flaw},
    load::Outcome,
    process::Process,
    programs::Programs,
    stats::Rounds,
    table::say,
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

/// What stands in a table where a figure would be one about other processes.
const TOO_BUSY: &str = "too busy";

/// What stands there where too few rounds can be compared with those of the baseline.
const NO_FIGURE: &str = "–";

/// Rows that have no figure, because the machine was too busy in most of their rounds.
#[derive(Debug, Default)]
pub struct Missing(Vec<String>);

impl Missing {
    /// How they are called.
    #[must_use]
    pub fn rows(&self) -> &[String] {
        &self.0
    }

    /// Says below a table which rounds of its rows were left out, and why.
    fn note<'a>(&mut self, rows: impl IntoIterator<Item = (&'a str, &'a Tally)>) {
        for (name, tally) in rows {
            if !tally.is_enough() {
                self.0.push(name.to_owned());
            }
            if let (1.., Some(flaw)) = (tally.left_out, tally.flaw) {
                say(&format!(
                    "{name}: {} of {} rounds left out; of the last one, {flaw}",
                    tally.left_out,
                    tally.left_out + tally.good
                ));
            }
        }
    }
}

/// Measures everything that is wanted, and prints a table for each case. Gives the rows that have no figure.
///
/// # Errors
/// When a server does not start, or an answer is wrong.
pub async fn run(plan: &Plan) -> anyhow::Result<Missing> {
    let mut missing = Missing::default();
    let cores = std::thread::available_parallelism()?.get();
    let load_core = LOAD_CORE.min(cores - 1);
    bind_to(load_core)?;
    say(&format!(
        "{cores} cores; the server on core {SERVER_CORE}, the load on core {load_core}; {} rounds of {:?}; medians ± half the spread",
        plan.rounds, plan.time
    ));
    let mut peak = None;
    if plan.wants("unary") {
        peak = unary::run(plan, &mut missing).await?;
    }
    if let Some(h2load) = plan.h2load.as_ref().filter(|_| plan.wants("cross-check")) {
        cross_check::run(plan, h2load, &mut missing).await?;
    }
    if plan.wants("many") {
        many::run(plan, &mut missing).await?;
    }
    if plan.wants("latency") {
        latency::run(plan, peak, load_core, &mut missing).await?;
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
        maps::run(plan, load_core, &mut missing)?;
    }
    if plan.wants("near") {
        near::run()?;
    }
    Ok(missing)
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
    /// Which rounds count.
    tally: Tally,
}

impl Measured {
    fn round(
        &mut self,
        process: &Process,
        mut load: impl FnMut() -> anyhow::Result<Outcome>,
    ) -> anyhow::Result<()> {
        let round = self.tally.round(|| judged(process, Wants::All, &mut load))?;
        let of = |value: fn(&Round<Outcome>) -> f64| round.as_ref().map(value);
        self.rate.add(of(|round| round.outcome.answers as f64 / round.outcome.took.as_secs_f64()));
        self.cpu.add(of(|round| round.cpu.as_secs_f64() * 1e6 / round.outcome.answers as f64));
        self.busy.add(of(|round| round.shares.used));
        Ok(())
    }

    /// A line of a table: of cells with figures, or of none that has one.
    fn line(&self, name: &str, figures: Vec<String>) -> Vec<String> {
        line(name, &self.tally, figures)
    }

    fn used(&self) -> String {
        used(&self.busy)
    }
}

/// What a round came to, and what the server had of its core meanwhile.
struct Round<T> {
    outcome: T,
    /// The server's processor time.
    cpu: Duration,
    shares: Shares,
}

/// Measures a round of a server on its core, and says why it does not count, if it does not.
fn judged<T>(
    process: &Process,
    wants: Wants,
    load: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<(Round<T>, Option<Flaw>)> {
    judged_on(SERVER_CORE, process.id(), wants, load)
}

/// The same of any process on any core.
fn judged_on<T>(
    core: usize,
    process: u32,
    wants: Wants,
    mut load: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<(Round<T>, Option<Flaw>)> {
    let before = Books::of(process, core)?;
    let outcome = load()?;
    let after = Books::of(process, core)?;
    let shares = after.since(&before);
    Ok((Round { outcome, cpu: after.ran_since(&before), shares }, flaw(&shares, wants)))
}

/// A line of a table: its name, its figures if there are any, and how many rounds they rest on.
fn line(name: &str, tally: &Tally, figures: Vec<String>) -> Vec<String> {
    let figures =
        figures.into_iter().map(|figure| if tally.is_enough() { figure } else { TOO_BUSY.to_owned() });
    std::iter::once(name.to_owned()).chain(figures).chain([tally.shown()]).collect()
}

fn used(busy: &Rounds) -> String {
    busy.median().map_or_else(|| NO_FIGURE.to_owned(), |busy| format!("{:.0} %", busy * 100.0))
}

fn shown(rounds: &Rounds, digits: usize) -> String {
    let Some(median) = rounds.median() else { return NO_FIGURE.to_owned() };
    format!("{median:.digits$} ±{:.0} %", rounds.uncertainty() * 100.0)
}

/// The median of the rounds' ratios, and their spread.
fn ratio(subject: &Rounds, baseline: &Rounds) -> String {
    let ratios = subject.over(baseline);
    let Some(median) = ratios.median().filter(|_| ratios.covers_most()) else { return NO_FIGURE.to_owned() };
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
