//! The start of a replica with a million keys in use: when it has them, what that costs the database, and what callers
//! notice of it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tenant_auth_proto::v1::{self, validation_service_client::ValidationServiceClient};
use tenant_auth_testkit::StatementRows;
use tonic::transport::Channel;

use super::{Plan, SERVER_CORE};
use crate::{
    database::Database,
    service::{connect_when_ready, create_keys, start_process},
    table,
};

const KEYS: u64 = 1_000_000;
const TENANTS: u64 = 10_000;
/// Rows that one statement inserts.
const ROWS_PER_INSERT: u64 = 100_000;
/// How long nothing may be read until all is read.
const QUIET: Duration = Duration::from_secs(2);
const MAX_DURATION: Duration = Duration::from_secs(600);
/// Time between two calls. Without it, the caller would use up both cores.
const PAUSE: Duration = Duration::from_millis(1);
/// How long the replica is measured once it has the keys.
const AFTERWARDS: Duration = Duration::from_secs(10);

pub(super) async fn run(plan: &Plan) -> anyhow::Result<()> {
    let database = Database::start()?;
    let writer = start_process(&plan.programs.service, Some(SERVER_CORE), &database.url, &[])?;
    let keys = create_keys(&connect_when_ready(&writer).await?, 1).await?;
    drop(writer);
    seed(&database)?;
    database.take_rows();
    let begun = Instant::now();
    let capacity = [("TENANT_AUTH_CACHE_KEYS", "1100000")];
    let replica = start_process(&plan.programs.service, Some(SERVER_CORE), &database.url, &capacity)?;
    let mut validation = ValidationServiceClient::new(connect_when_ready(&replica).await?);
    let ready = begun.elapsed();
    let at_first = replica.resident_bytes()?;
    let mut reads = PreloadReads { last_at: begun, ..PreloadReads::default() };
    let meanwhile = measure_latency(&mut validation, &keys[0], || {
        reads.add(&database.take_rows());
        reads.last_at.elapsed() > QUIET || begun.elapsed() > MAX_DURATION
    })
    .await?;
    let bytes = replica.resident_bytes()?;
    let ends = Instant::now() + AFTERWARDS;
    let afterwards = measure_latency(&mut validation, &keys[0], || Instant::now() > ends).await?;
    let per_key = |count: u64| count as f64 / KEYS as f64;
    let latency = |of: &Histogram<u64>| {
        let quantile = |quantile| of.value_at_quantile(quantile) as f64 / 1e3;
        format!("{:.0}, {:.0}, {:.0} µs", quantile(0.5), quantile(0.99), quantile(0.999))
    };
    table::print(
        &format!("The start of a replica: {KEYS} keys of {TENANTS} tenants are in use"),
        &["what", "value"],
        &[
            vec!["ready after".to_owned(), format!("{:.2} s", ready.as_secs_f64())],
            vec![
                "has read all keys after".to_owned(),
                format!("{:.1} s", (reads.last_at - begun).as_secs_f64()),
            ],
            vec!["statements".to_owned(), reads.executions.to_string()],
            vec!["rows read per key".to_owned(), format!("{:.3}", per_key(reads.rows))],
            vec![
                "resident bytes per key".to_owned(),
                format!("{:.0}", per_key(bytes.saturating_sub(at_first))),
            ],
            vec!["latency of a cached key meanwhile: p50, p99, p99.9".to_owned(), latency(&meanwhile)],
            vec!["… afterwards".to_owned(), latency(&afterwards)],
        ],
    );
    Ok(())
}

/// What the replica has read so far.
#[derive(Debug)]
struct PreloadReads {
    rows: u64,
    executions: u64,
    last_at: Instant,
}

impl Default for PreloadReads {
    fn default() -> Self {
        Self { rows: 0, executions: 0, last_at: Instant::now() }
    }
}

impl PreloadReads {
    fn add(&mut self, new: &BTreeMap<String, StatementRows>) {
        let preload = new.iter().filter(|(statement, _)| {
            statement.contains("ORDER BY last_used_at DESC")
                || statement.contains("LEFT JOIN tenants ON tenants.id = wanted.value")
        });
        for (_, rows) in preload {
            self.rows += rows.read;
            self.executions += rows.executions;
            self.last_at = Instant::now();
        }
    }
}

/// Validates a key again and again, a millisecond after the previous call, until it is over. Returns nanoseconds.
async fn measure_latency(
    validation: &mut ValidationServiceClient<Channel>,
    key: &str,
    mut is_over: impl FnMut() -> bool,
) -> anyhow::Result<Histogram<u64>> {
    let mut latencies = Histogram::new(3)?;
    let request = || v1::ValidateKeyRequest { key: key.to_owned(), ..Default::default() };
    let mut asked_at = Instant::now();
    loop {
        let begun = Instant::now();
        validation.validate_key(request()).await?;
        latencies.record(u64::try_from(begun.elapsed().as_nanos())?)?;
        tokio::time::sleep(PAUSE).await;
        if asked_at.elapsed() > Duration::from_millis(100) {
            if is_over() {
                return Ok(latencies);
            }
            asked_at = Instant::now();
        }
    }
}

fn seed(database: &Database) -> anyhow::Result<()> {
    insert(
        database,
        TENANTS,
        "INSERT INTO tenants (id, name, plan, created_at, updated_at) \
         SELECT 'ten_' || n, 'Customer ' || n, 'enterprise', 1, 1 FROM series",
    )?;
    insert(
        database,
        KEYS,
        &format!(
            "INSERT INTO api_keys (key_hash, id, tenant_id, scopes, created_at, last_used_at) \
             SELECT randomblob(32), printf('key_%032x', n), 'ten_' || (n * 7919 % {TENANTS} + 1), \
                    '[\"orders:read\",\"orders:write\"]', 1, n FROM series"
        ),
    )
}

/// Inserts rows with numbers from 1.
fn insert(database: &Database, rows: u64, insert: &str) -> anyhow::Result<()> {
    for last in (ROWS_PER_INSERT.min(rows)..=rows).step_by(usize::try_from(ROWS_PER_INSERT)?) {
        let first = last.saturating_sub(ROWS_PER_INSERT) + 1;
        database.execute(&format!(
            "WITH RECURSIVE series (n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM series WHERE n < {last}) {insert}"
        ))?;
    }
    Ok(())
}
