//! Many keys per request, and many keys on a stream.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use tenant_auth_proto::v1;

use super::{
    BATCH_VALIDATE_KEYS, CONNECTION_COUNT, Measurement, MissingFigures, Plan, SERVER_CORE,
    STREAM_VALIDATE_KEYS, STREAMS_PER_CONNECTION, VALIDATE_KEY, format_median, format_ratio, is_valid,
    is_valid_batch,
};
use crate::{load::Load, service::Service, table};

const BATCH_SIZES: [usize; 3] = [8, 64, 256];
/// Messages in flight on each stream.
const MESSAGES_IN_FLIGHT: usize = 64;
const KEY_COUNT: usize = 1_000;

struct Subject {
    name: String,
    path: &'static str,
    bodies: Arc<[Bytes]>,
    expect: fn(&[u8]) -> bool,
    /// Keys per response.
    keys: usize,
    measured: Measurement,
}

pub(super) async fn run(plan: &Plan, missing: &mut MissingFigures) -> anyhow::Result<()> {
    let service = Service::start(&plan.programs.service, Some(SERVER_CORE), KEY_COUNT).await?;
    let subject = |name: &str, path, bodies, expect, keys| {
        let measured = Measurement::default();
        Subject { name: name.to_owned(), path, bodies, expect, keys, measured }
    };
    let mut subjects = vec![subject("ValidateKey", VALIDATE_KEY, service.requests(), is_valid, 1)];
    subjects.extend(BATCH_SIZES.map(|size| {
        let name = format!("BatchValidateKeys of {size}");
        subject(&name, BATCH_VALIDATE_KEYS, service.batch_bodies(size), is_valid_batch, size)
    }));
    let name = format!("StreamValidateKeys, {MESSAGES_IN_FLIGHT} in flight");
    subjects.push(subject(&name, STREAM_VALIDATE_KEYS, service.messages(), is_answer, 1));
    for round in 0..=plan.rounds {
        for Subject { path, bodies, expect, measured, .. } in &mut subjects {
            let is_stream = *path == STREAM_VALIDATE_KEYS;
            let load = Load {
                address: service.process.address,
                path,
                bodies: bodies.clone(),
                connections: CONNECTION_COUNT,
                streams: if is_stream { MESSAGES_IN_FLIGHT } else { STREAMS_PER_CONNECTION },
                is_expected: *expect,
            };
            let go =
                || if is_stream { load.run_streaming(plan.time) } else { load.run_closed_loop(plan.time) };
            if round == 0 {
                go()?;
            } else {
                measured.measure_round(&service.process, go)?;
            }
        }
    }
    // Per key, so that they can be compared.
    for Subject { keys, measured, .. } in &mut subjects {
        measured.rate = measured.rate.scaled_by(*keys as f64);
        measured.cpu = measured.cpu.scaled_by(1.0 / *keys as f64);
    }
    let Some(Subject { measured: unary, .. }) = subjects.first() else { return Ok(()) };
    let line = |Subject { name, measured: this, .. }: &Subject| {
        let figures = vec![
            format_median(&this.rate, 0),
            this.core_used(),
            format_median(&this.cpu, 3),
            format_ratio(&this.rate, &unary.rate),
            format_ratio(&unary.cpu, &this.cpu),
        ];
        this.table_row(name, figures)
    };
    let lines: Vec<_> = subjects.iter().map(line).collect();
    let head =
        ["request", "keys/s", "core used", "µs CPU/key", "keys/s against one by one", "by CPU", "rounds"];
    table::print("Many keys per request, all cached", &head, &lines);
    missing.report(subjects.iter().map(|subject| (subject.name.as_str(), &subject.measured.tally)));
    Ok(())
}

fn is_answer(message: &[u8]) -> bool {
    use v1::stream_validate_keys_response::Result as Outcome;
    let answer = v1::StreamValidateKeysResponse::decode(message).ok().and_then(|answer| answer.result);
    matches!(answer, Some(Outcome::Response(answer)) if answer.verdict() == v1::Verdict::Valid)
}
