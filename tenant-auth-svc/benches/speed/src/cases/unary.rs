//! One key per request, compared with stock tonic and with an empty handler on our transport.

use super::{
    CONNECTION_COUNT, Measurement, MissingFigures, Plan, SERVER_CORE, STREAMS_PER_CONNECTION, VALIDATE_KEY,
    format_median, format_ratio, is_empty, is_valid,
};
use crate::{load::Load, process::Process, service::Service, table};

/// Measures, and returns the highest rate of the service with one key, if it could be measured.
pub(super) async fn run(plan: &Plan, missing: &mut MissingFigures) -> anyhow::Result<Option<f64>> {
    let core = Some(SERVER_CORE);
    let stock = Process::start_empty(core, &plan.programs.stock)?;
    let bare = Process::start_empty(core, &plan.programs.bare)?;
    let hot = Service::start(&plan.programs.service, core, 1).await?;
    let many = Service::start(&plan.programs.service, core, super::MANY_KEYS).await?;
    let one = hot.requests();
    let subjects = [
        ("stock tonic, empty handler", &stock, one.clone(), is_empty as fn(&[u8]) -> bool),
        ("our transport, empty handler", &bare, one.clone(), is_empty),
        ("ValidateKey, one key", &hot.process, one.clone(), is_valid),
        ("ValidateKey, 100,000 keys at random", &many.process, many.requests(), is_valid),
    ];
    let mut measured: [Measurement; 4] = Default::default();
    for round in 0..=plan.rounds {
        for ((_, process, bodies, expect), measured) in subjects.iter().zip(&mut measured) {
            let load = Load {
                address: process.address,
                path: VALIDATE_KEY,
                bodies: bodies.clone(),
                connections: CONNECTION_COUNT,
                streams: STREAMS_PER_CONNECTION,
                is_expected: *expect,
            };
            // The first round is a warm-up.
            if round == 0 {
                load.run_closed_loop(plan.time)?;
            } else {
                measured.measure_round(process, || load.run_closed_loop(plan.time))?;
            }
        }
    }
    let [stock, bare, hot, _] = &measured;
    let lines: Vec<_> = subjects
        .iter()
        .zip(&measured)
        .map(|((name, ..), this)| {
            let figures = vec![
                format_median(&this.rate, 0),
                this.core_used(),
                format_median(&this.cpu, 2),
                format_ratio(&this.rate, &stock.rate),
                format_ratio(&stock.cpu, &this.cpu),
                format_ratio(&bare.cpu, &this.cpu),
                format_ratio(&hot.cpu, &this.cpu),
            ];
            this.table_row(name, figures)
        })
        .collect();
    table::print(
        &format!(
            "One key per request, {CONNECTION_COUNT} connections with {STREAMS_PER_CONNECTION} concurrent requests each"
        ),
        &[
            "server",
            "requests/s",
            "core used",
            "µs CPU/request",
            "rate/stock",
            "stock/CPU",
            "bare/CPU",
            "hot/CPU",
            "rounds",
        ],
        &lines,
    );
    missing.report(subjects.iter().zip(&measured).map(|((name, ..), this)| (*name, &this.tally)));
    Ok(hot.rate.median().filter(|_| hot.tally.has_enough_rounds()))
}
