//! One key a request: against tonic as it comes, and against a handler that does nothing on our transport.

use super::{
    CONNECTIONS, Measured, Missing, Plan, SERVER_CORE, STREAMS, VALIDATE_KEY, is_empty, is_valid, ratio,
    shown,
};
use crate::{load::Load, process::Process, service::Service, table};

/// Measures, and gives the highest rate of the service with one key, if the machine let it be measured.
pub(super) async fn run(plan: &Plan, missing: &mut Missing) -> anyhow::Result<Option<f64>> {
    let core = Some(SERVER_CORE);
    let stock = Process::start_empty(core, &plan.programs.stock)?;
    let bare = Process::start_empty(core, &plan.programs.bare)?;
    let hot = Service::start(&plan.programs.service, core, 1).await?;
    let many = Service::start(&plan.programs.service, core, super::MANY).await?;
    let one = hot.requests();
    let subjects = [
        ("stock tonic, empty handler", &stock, one.clone(), is_empty as fn(&[u8]) -> bool),
        ("our transport, empty handler", &bare, one.clone(), is_empty),
        ("ValidateKey, one key", &hot.process, one.clone(), is_valid),
        ("ValidateKey, 100,000 keys at random", &many.process, many.requests(), is_valid),
    ];
    let mut measured: [Measured; 4] = Default::default();
    for round in 0..=plan.rounds {
        for ((_, process, bodies, expect), measured) in subjects.iter().zip(&mut measured) {
            let load = Load {
                address: process.address,
                path: VALIDATE_KEY,
                bodies: bodies.clone(),
                connections: CONNECTIONS,
                streams: STREAMS,
                expect: *expect,
            };
            // The first round only warms up.
            if round == 0 {
                load.flat_out(plan.time)?;
            } else {
                measured.round(process, || load.flat_out(plan.time))?;
            }
        }
    }
    let [stock, bare, hot, _] = &measured;
    let lines: Vec<_> = subjects
        .iter()
        .zip(&measured)
        .map(|((name, ..), this)| {
            let figures = vec![
                shown(&this.rate, 0),
                this.used(),
                shown(&this.cpu, 2),
                ratio(&this.rate, &stock.rate),
                ratio(&stock.cpu, &this.cpu),
                ratio(&bare.cpu, &this.cpu),
                ratio(&hot.cpu, &this.cpu),
            ];
            this.line(name, figures)
        })
        .collect();
    table::print(
        &format!("One key a request, {CONNECTIONS} connections of {STREAMS} requests at once"),
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
    missing.note(subjects.iter().zip(&measured).map(|((name, ..), this)| (*name, &this.tally)));
    Ok(hot.rate.median().filter(|_| hot.tally.is_enough()))
}
