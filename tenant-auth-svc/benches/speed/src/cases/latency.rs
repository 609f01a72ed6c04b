//! Latency at half of the highest rate: an open loop, corrected for coordinated omission.

use hdrhistogram::Histogram;

use super::{
    CONNECTION_COUNT, MissingFigures, Plan, SERVER_CORE, VALIDATE_KEY, format_ratio, is_empty, is_valid,
    measure_round, measure_round_on,
};
use crate::{
    load::Load,
    process::Process,
    round_check::{CoreRequirement, RoundCounts, find_load_flaw},
    service::Service,
    stats::Rounds,
    table,
};

/// Maximum number of streams that the service allows on one connection.
const MAX_STREAMS: usize = 200;
const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

/// Measures at half of `peak`. Without it, determines the peak first.
pub(super) async fn run(
    plan: &Plan,
    peak: Option<f64>,
    load_core: usize,
    missing: &mut MissingFigures,
) -> anyhow::Result<()> {
    let core = Some(SERVER_CORE);
    let bare = Process::start_empty(core, &plan.programs.bare)?;
    let service = Service::start(&plan.programs.service, core, 1).await?;
    let bodies = service.requests();
    let load = |process: &Process, expect| Load {
        address: process.address,
        path: VALIDATE_KEY,
        bodies: bodies.clone(),
        connections: CONNECTION_COUNT,
        streams: MAX_STREAMS,
        is_expected: expect,
    };
    let peak = match peak {
        Some(peak) => peak,
        None => {
            let outcome = load(&service.process, is_valid).run_closed_loop(plan.time)?;
            outcome.answers as f64 / outcome.elapsed.as_secs_f64()
        }
    };
    let rate = peak / 2.0;
    let subjects = [
        ("our transport, empty handler", &bare, is_empty as fn(&[u8]) -> bool),
        ("ValidateKey, one key", &service.process, is_valid),
    ];
    let mut measured: [([Rounds; 3], RoundCounts); 2] = Default::default();
    for round in 0..=plan.rounds {
        for ((_, process, expect), (measured, tally)) in subjects.iter().zip(&mut measured) {
            let go = || Ok(load(process, *expect).run_open_loop(rate, plan.time)?.latencies);
            if round == 0 {
                let _: Histogram<u64> = go()?;
                continue;
            }
            let latencies = tally.measure(|| {
                let of_load =
                    || measure_round_on(load_core, std::process::id(), CoreRequirement::Immediate, go);
                let (server, flaw) = measure_round(process, CoreRequirement::Immediate, of_load)?;
                let (load, _) = server.outcome;
                Ok((load.outcome, flaw.or_else(|| find_load_flaw(&load.shares))))
            })?;
            for ((_, quantile), rounds) in QUANTILES.iter().zip(measured) {
                let at = |latencies: &Histogram<u64>| latencies.value_at_quantile(*quantile) as f64 / 1e3;
                rounds.add(latencies.as_ref().map(at));
            }
        }
    }
    let [(bare, _), _] = &measured;
    let lines: Vec<_> = subjects
        .iter()
        .zip(&measured)
        .map(|((name, ..), (these, tally))| {
            let figures = these.iter().zip(bare).map(|(this, bare)| {
                format!("{} ({})", super::format_median(this, 0), format_ratio(this, bare))
            });
            super::table_row(name, tally, figures.collect())
        })
        .collect();
    let mut head = vec!["server"];
    let named = QUANTILES.map(|(name, _)| format!("{name}, µs"));
    head.extend(named.iter().map(String::as_str));
    head.push("rounds");
    table::print(
        &format!("Latency at {rate:.0} requests/s, and its ratio to the empty handler's"),
        &head,
        &lines,
    );
    missing.report(subjects.iter().zip(&measured).map(|((name, ..), (_, tally))| (*name, tally)));
    Ok(())
}
