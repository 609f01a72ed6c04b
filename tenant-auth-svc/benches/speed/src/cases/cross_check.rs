//! The same measurement with an independent load generator: if ours were the bottleneck, the two would
//! disagree.

use std::{io::Write as _, path::Path, process::Command};

use anyhow::{Context as _, ensure};

use super::{
    CONNECTION_COUNT, LOAD_CORE, MissingFigures, Plan, SERVER_CORE, STREAMS_PER_CONNECTION, VALIDATE_KEY,
    format_core_used, format_median, format_ratio, is_empty, is_valid, measure_round, table_row,
};
use crate::{
    load::Load,
    process::Process,
    round_check::{CoreRequirement, RoundCounts},
    service::Service,
    stats::Rounds,
    table,
};

pub(super) async fn run(plan: &Plan, h2load: &Path, missing: &mut MissingFigures) -> anyhow::Result<()> {
    let core = Some(SERVER_CORE);
    let stock = Process::start_empty(core, &plan.programs.stock)?;
    let bare = Process::start_empty(core, &plan.programs.bare)?;
    let service = Service::start(&plan.programs.service, core, 1).await?;
    let bodies = service.requests();
    let body = bodies.first().context("no request")?;
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(body)?;
    let subjects = [
        ("stock tonic, empty handler", &stock, is_empty as fn(&[u8]) -> bool),
        ("our transport, empty handler", &bare, is_empty),
        ("ValidateKey, one key", &service.process, is_valid),
    ];
    let mut rates: [([Rounds; 3], RoundCounts); 3] = Default::default();
    for round in 0..=plan.rounds {
        for ((_, process, expect), ([ours, theirs, busy], tally)) in subjects.iter().zip(&mut rates) {
            let load = Load {
                address: process.address,
                path: VALIDATE_KEY,
                bodies: bodies.clone(),
                connections: CONNECTION_COUNT,
                streams: STREAMS_PER_CONNECTION,
                is_expected: *expect,
            };
            if round == 0 {
                load.run_closed_loop(plan.time)?;
                continue;
            }
            // A round counts for both or for neither, because they are compared.
            let both = tally.measure(|| {
                let (of_ours, flaw) =
                    measure_round(process, CoreRequirement::Saturated, || load.run_closed_loop(plan.time))?;
                // h2load saturates its own core first, so the server is never saturated.
                let (of_theirs, other) = measure_round(process, CoreRequirement::Exclusive, || {
                    run_h2load(plan, h2load, file.path(), process)
                })?;
                Ok(((of_ours.outcome, of_theirs), flaw.or(other)))
            })?;
            let both = both.as_ref();
            ours.add(both.map(|(outcome, _)| outcome.answers as f64 / outcome.elapsed.as_secs_f64()));
            theirs.add(both.map(|(_, theirs)| theirs.outcome.0));
            busy.add(both.map(|(_, theirs)| theirs.cpu.as_secs_f64() / theirs.outcome.1));
        }
    }
    let [(stock, _), ..] = &rates;
    let lines: Vec<_> = subjects
        .iter()
        .zip(&rates)
        .map(|((name, ..), (these, tally))| {
            let mut figures = Vec::new();
            for (this, stock) in these.iter().zip(stock).take(2) {
                figures.extend([format_median(this, 0), format_ratio(this, stock)]);
            }
            figures.extend(these.last().map(format_core_used));
            table_row(name, tally, figures)
        })
        .collect();
    let head = [
        "server",
        "our load, requests/s",
        "rate/stock",
        "h2load, requests/s",
        "rate/stock",
        "core used",
        "rounds",
    ];
    table::print("The same with two load generators", &head, &lines);
    missing.report(subjects.iter().zip(&rates).map(|((name, ..), (_, tally))| (*name, tally)));
    Ok(())
}

/// Returns h2load's requests per second, and the seconds for which it sent requests, including its warm-up.
fn run_h2load(plan: &Plan, h2load: &Path, body: &Path, process: &Process) -> anyhow::Result<(f64, f64)> {
    const WARM_UP: f64 = 1.0;
    let seconds = plan.time.as_secs_f64().max(1.0);
    let output = Command::new("taskset")
        .args(["-c", &LOAD_CORE.to_string()])
        .arg(h2load)
        .args(["-c", &CONNECTION_COUNT.to_string(), "-m", &STREAMS_PER_CONNECTION.to_string(), "-t", "1"])
        .args(["--warm-up-time", &WARM_UP.to_string(), "-D", &format!("{seconds:.0}"), "-d"])
        .arg(body)
        .args(["-H", "content-type: application/grpc", "-H", "te: trailers"])
        .arg(format!("http://{}{VALIDATE_KEY}", process.address))
        .output()
        .context("h2load cannot be run")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "h2load failed: {}", String::from_utf8_lossy(&output.stderr));
    // "finished in 3.00s, 123456.78 req/s, 12.34MB/s"
    let rate = text.lines().find_map(|line| line.strip_prefix("finished in ")?.split(", ").nth(1));
    let rate = rate.and_then(|rate| rate.strip_suffix(" req/s"));
    let rate = rate.with_context(|| format!("unexpected output of h2load: {text}"))?.parse()?;
    Ok((rate, seconds.round() + WARM_UP))
}
