//! Database cost of a cache miss: requests and connections, as counted by the test server.

use std::sync::Arc;

use bytes::Bytes;
use tenant_auth_testkit::Counters;

use super::{BATCH_VALIDATE_KEYS, Plan, SERVER_CORE, VALIDATE_KEY, is_valid, is_valid_batch};
use crate::{
    database::Database,
    load::Load,
    service::{batch_request, connect_when_ready, create_keys, key_request, start_process},
    table,
};

/// Keys per case.
const KEYS_PER_CASE: usize = 1_000;

pub(super) async fn run(plan: &Plan) -> anyhow::Result<()> {
    let database = Database::start()?;
    let writer = start_process(&plan.programs.service, Some(SERVER_CORE), &database.url, &[])?;
    let keys = create_keys(&connect_when_ready(&writer).await?, 3 * KEYS_PER_CASE).await?;
    drop(writer);
    // A service that has cached none of the keys, and sends no other requests meanwhile.
    let alone = [("TENANT_AUTH_FEED_INTERVAL", "off")];
    let cold = start_process(&plan.programs.service, Some(SERVER_CORE), &database.url, &alone)?;
    connect_when_ready(&cold).await?;

    let (one, rest) = keys.split_at(KEYS_PER_CASE);
    let (many, together) = rest.split_at(KEYS_PER_CASE);
    let each = |keys: &[String]| keys.iter().map(|key| key_request(key)).collect::<Arc<[Bytes]>>();
    let subjects = [
        ("one after the other", VALIDATE_KEY, each(one), 1, is_valid as fn(&[u8]) -> bool),
        ("64 at once, each for another key", VALIDATE_KEY, each(many), 64, is_valid),
        (
            "batches of 100 keys",
            BATCH_VALIDATE_KEYS,
            together.chunks(100).map(batch_request).collect(),
            1,
            is_valid_batch,
        ),
    ];
    let mut lines = Vec::new();
    for (name, path, bodies, streams, expect) in subjects {
        let load = Load { address: cold.address, path, bodies, connections: 1, streams, is_expected: expect };
        let before = database.counters();
        load.run_once()?;
        let Counters { requests, connections, statements, .. } = database.counters();
        let per_key = |now: u64, then: u64| (now - then) as f64 / KEYS_PER_CASE as f64;
        lines.push(vec![
            name.to_owned(),
            format!("{:.3}", per_key(requests, before.requests)),
            format!("{:.3}", per_key(statements, before.statements)),
            (connections - before.connections).to_string(),
        ]);
    }
    let head = ["misses", "requests per key", "statements per key", "new connections in total"];
    table::print(&format!("Misses: {KEYS_PER_CASE} uncached keys per case"), &head, &lines);
    Ok(())
}
