//! Many keys a request, and many on a stream.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use tenant_auth_proto::v1;

use super::{
    BATCH_VALIDATE_KEYS, CONNECTIONS, Measured, Missing, Plan, SERVER_CORE, STREAM_VALIDATE_KEYS, STREAMS,
    VALIDATE_KEY, is_valid, is_valid_batch, ratio, shown,
};
use crate::{load::Load, service::Service, table};

const SIZES: [usize; 3] = [8, 64, 256];
/// Messages under way on each stream.
const WINDOW: usize = 64;
const KEYS: usize = 1_000;

struct Subject {
    name: String,
    path: &'static str,
    bodies: Arc<[Bytes]>,
    expect: fn(&[u8]) -> bool,
    /// Keys of one answer.
    keys: usize,
    measured: Measured,
}

pub(super) async fn run(plan: &Plan, missing: &mut Missing) -> anyhow::Result<()> {
    let service = Service::start(&plan.programs.service, Some(SERVER_CORE), KEYS).await?;
    let subject = |name: &str, path, bodies, expect, keys| {
        let measured = Measured::default();
        Subject { name: name.to_owned(), path, bodies, expect, keys, measured }
    };
    let mut subjects = vec![subject("ValidateKey", VALIDATE_KEY, service.requests(), is_valid, 1)];
    subjects.extend(SIZES.map(|size| {
        let name = format!("BatchValidateKeys of {size}");
        subject(&name, BATCH_VALIDATE_KEYS, service.batch(size), is_valid_batch, size)
    }));
    let name = format!("StreamValidateKeys, {WINDOW} under way");
    subjects.push(subject(&name, STREAM_VALIDATE_KEYS, service.messages(), is_answer, 1));
    for round in 0..=plan.rounds {
        for Subject { path, bodies, expect, measured, .. } in &mut subjects {
            let is_stream = *path == STREAM_VALIDATE_KEYS;
            let load = Load {
                address: service.process.address,
                path,
                bodies: bodies.clone(),
                connections: CONNECTIONS,
                streams: if is_stream { WINDOW } else { STREAMS },
                expect: *expect,
            };
            let go = || if is_stream { load.streaming(plan.time) } else { load.flat_out(plan.time) };
            if round == 0 {
                go()?;
            } else {
                measured.round(&service.process, go)?;
            }
        }
    }
    // By key, so that they can be compared.
    for Subject { keys, measured, .. } in &mut subjects {
        measured.rate = measured.rate.times(*keys as f64);
        measured.cpu = measured.cpu.times(1.0 / *keys as f64);
    }
    let Some(Subject { measured: unary, .. }) = subjects.first() else { return Ok(()) };
    let line = |Subject { name, measured: this, .. }: &Subject| {
        let figures = vec![
            shown(&this.rate, 0),
            this.used(),
            shown(&this.cpu, 3),
            ratio(&this.rate, &unary.rate),
            ratio(&unary.cpu, &this.cpu),
        ];
        this.line(name, figures)
    };
    let lines: Vec<_> = subjects.iter().map(line).collect();
    let head =
        ["request", "keys/s", "core used", "µs CPU/key", "keys/s against one by one", "by CPU", "rounds"];
    table::print("Many keys a request, all in memory", &head, &lines);
    missing.note(subjects.iter().map(|subject| (subject.name.as_str(), &subject.measured.tally)));
    Ok(())
}

fn is_answer(message: &[u8]) -> bool {
    use v1::stream_validate_keys_response::Result as Outcome;
    let answer = v1::StreamValidateKeysResponse::decode(message).ok().and_then(|answer| answer.result);
    matches!(answer, Some(Outcome::Response(answer)) if answer.verdict() == v1::Verdict::Valid)
}
