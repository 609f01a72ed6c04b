//! Many keys a request.

use super::{Measured, Plan, SERVER_CORE, ratio, shown};
use crate::{load::Load, service::Service, table};

const UNARY: &str = "/tenantauth.v1.ValidationService/ValidateKey";
const BATCH: &str = "/tenantauth.v1.ValidationService/BatchValidateKeys";
const SIZES: [usize; 3] = [8, 64, 256];

pub(super) async fn run(plan: &Plan) -> anyhow::Result<()> {
    let service = Service::start(&plan.programs.service, Some(SERVER_CORE), 1_000).await?;
    let mut subjects = vec![(1, UNARY, service.requests(), Measured::default())];
    subjects.extend(SIZES.map(|size| (size, BATCH, service.batch(size), Measured::default())));
    for round in 0..=plan.rounds {
        for (_, path, bodies, measured) in &mut subjects {
            let load = Load {
                address: service.process.address,
                path,
                bodies: bodies.clone(),
                connections: 4,
                streams: 16,
            };
            let mut warm_up = Measured::default();
            let into = if round == 0 { &mut warm_up } else { measured };
            into.round(&service.process, &load, plan.time).await?;
        }
    }
    let per_key = |size: usize, measured: &Measured| measured.cpu.median() / size as f64;
    let Some((_, _, _, unary)) = subjects.first() else { return Ok(()) };
    let unary = (unary.rate.median(), per_key(1, unary));
    let lines: Vec<_> = subjects
        .iter()
        .map(|(size, _, _, this)| {
            let keys = this.rate.median() * *size as f64;
            vec![
                if *size == 1 { "ValidateKey".to_owned() } else { format!("BatchValidateKeys of {size}") },
                format!("{keys:.0}"),
                shown(&this.rate, 0),
                format!("{:.0} %", this.busy.median() * 100.0),
                format!("{:.3}", per_key(*size, this)),
                ratio(keys, unary.0),
                ratio(unary.1, per_key(*size, this)),
            ]
        })
        .collect();
    table::print(
        "Many keys a request, all in memory",
        &[
            "request",
            "keys/s",
            "requests/s",
            "core used",
            "µs CPU/key",
            "keys/s against one by one",
            "by CPU",
        ],
        &lines,
    );
    Ok(())
}
