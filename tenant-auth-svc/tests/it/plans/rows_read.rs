//! Counts the rows that statements read, on a real server started for the test.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::former_statements;
use crate::harness::{
    TestDatabase, TestService,
    statements::{PRUNE, READ_AHEAD, SWEEP_ENDED, SWEEP_EVENTS, SWEEP_REQUESTS, sent_statements},
};

/// Number of rows per statement when seeding.
const ROWS_PER_STATEMENT: i64 = 50_000;
const DAY: i64 = 86_400_000;

/// A running server. Dropping it ends the process.
struct Sqld {
    child: Child,
    url: String,
    http: reqwest::Client,
    _folder: TempDir,
}

impl Drop for Sqld {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sqld {
    /// Starts the program that the environment names, if any.
    async fn start() -> Option<Self> {
        let program = PathBuf::from(std::env::var_os("TENANT_AUTH_TEST_SQLD")?);
        // Another test may have installed the provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new(program)
            .args(["--http-listen-addr", &address, "--db-path"])
            .arg(folder.path().join("data"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let url = format!("http://{address}");
        let sqld = Self { child, url, http: reqwest::Client::new(), _folder: folder };
        let health = format!("{}/health", sqld.url);
        let listening = async { while sqld.http.get(&health).send().await.is_err() {} };
        tokio::time::timeout(Duration::from_secs(30), listening).await.expect("the server must start");
        Some(sqld)
    }

    /// Runs statements in one stream and returns their results.
    async fn run(&self, statements: &[(&str, Json)]) -> Vec<Json> {
        let execute =
            |(sql, args): &(&str, Json)| json!({ "type": "execute", "stmt": { "sql": sql, "args": args } });
        let mut requests: Vec<_> = statements.iter().map(execute).collect();
        requests.push(json!({ "type": "close" }));
        let body = json!({ "baton": null, "requests": requests }).to_string();
        let answer = self.http.post(format!("{}/v2/pipeline", self.url)).body(body).send().await.unwrap();
        let answer: Json = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        let results = answer["results"].as_array().unwrap_or_else(|| panic!("{answer}")).iter();
        let result = |result: &Json| {
            assert_eq!(result["type"], "ok", "{result}");
            result["response"]["result"].clone()
        };
        results.map(result).collect()
    }

    /// Returns how many rows a statement reads and writes, and rolls it back.
    async fn rows_read_and_written(&self, sql: &str, args: Json) -> (i64, i64) {
        let nothing = json!([]);
        let results =
            self.run(&[("BEGIN IMMEDIATE", nothing.clone()), (sql, args), ("ROLLBACK", nothing)]).await;
        (results[1]["rows_read"].as_i64().unwrap(), results[1]["rows_written"].as_i64().unwrap())
    }

    /// Inserts rows with numbers from 1.
    async fn seed(&self, insert: &str, rows: i64) {
        for first in (1..=rows).step_by(usize::try_from(ROWS_PER_STATEMENT).unwrap()) {
            let last = rows.min(first + ROWS_PER_STATEMENT - 1);
            let sql = format!(
                "WITH RECURSIVE series (n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM series WHERE n < {last}) {insert}"
            );
            self.run(&[(&sql, json!([]))]).await;
        }
    }
}

fn integer_value(value: i64) -> Json {
    json!({ "type": "integer", "value": value.to_string() })
}

fn text_value(value: &str) -> Json {
    json!({ "type": "text", "value": value })
}

#[tokio::test]
async fn rows_read_do_not_grow_with_table_size() {
    let Some(sqld) = Sqld::start().await else { return };
    let is_long = std::env::var_os("TENANT_AUTH_TEST_LONG").is_some();
    let (keys, events) = if is_long { (1_000_000, 2_000_000) } else { (20_000, 40_000) };
    // The service creates the schema.
    drop(TestService::start(&TestDatabase::Real(sqld.url.clone(), None)).await);
    let now = i64::try_from(
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis(),
    )
    .unwrap();
    let (kept, log, page) = (35 * DAY, keys / 10, 500);
    sqld.seed(
        "INSERT INTO tenants (id, name, created_at, updated_at) SELECT 'ten_' || n, 'x', 1, 1 FROM series",
        100,
    )
    .await;
    sqld.seed(
        "INSERT INTO api_keys (key_hash, id, tenant_id, created_at, last_used_at) \
         SELECT randomblob(32), 'key_' || n, 'ten_' || (n % 100 + 1), 1, n * 10 FROM series",
        keys,
    )
    .await;
    // Two thousand rows are older than the retention: those of the last two tenants.
    let hour = now / 3_600_000 * 3_600_000;
    sqld.seed(
        &format!(
            "INSERT INTO usage_events (tenant_id, hour, metric, request, quantity) \
             SELECT 'ten_' || CASE WHEN n <= 2000 THEN n % 2 + 98 ELSE n % 100 + 1 END, \
                    {hour} - 3600000 * (n % 24) - CASE WHEN n <= 2000 THEN {} ELSE 0 END, 'calls', n, 1 FROM series",
            40 * DAY
        ),
        events,
    )
    .await;
    sqld.seed(
        &format!(
            "INSERT INTO usage_requests (seq, request_id, payload_hash, first_seen_at, batch, refused, unknown_tenants) \
             SELECT n, 'r' || n, zeroblob(32), {now} - CASE WHEN n <= 2000 THEN {} ELSE 0 END, 1, '[]', '[]' FROM series",
            40 * DAY
        ),
        4_000,
    )
    .await;

    // Ten sessions per key, none of which has expired.
    sqld.seed(
        "INSERT INTO session_bindings (session_id, tenant_id, key_id, created_at, expires_at, ttl, sliding, bind_id) \
         SELECT 's' || n, 'ten_' || ((n / 10 + 1) % 100 + 1), 'key_' || (n / 10 + 1), 1, 9e15, 1, 0, 'x' FROM series",
        keys,
    )
    .await;

    let (_database, today) =
        sent_statements(&[SWEEP_EVENTS, READ_AHEAD, PRUNE, SWEEP_REQUESTS, SWEEP_ENDED]).await;
    let ended = json!([
        text_value(""),
        text_value(""),
        integer_value(page),
        integer_value(600_000),
        integer_value(page)
    ]);
    let sessions = sqld.rows_read_and_written(&today[4], ended).await;
    let middle = keys * 5;
    let requests =
        sqld.rows_read_and_written(&today[3], json!([integer_value(kept), integer_value(1_000)])).await;
    let mut table = Vec::new();
    let mut compare = async |what: &str, before: (&str, Json), after: (&str, Json)| {
        let before = sqld.rows_read_and_written(before.0, before.1).await;
        let after = sqld.rows_read_and_written(after.0, after.1).await;
        table.push((what.to_owned(), before, after));
    };
    let (after_key, log_kept) = (format!("key_{}", middle / 10), keys - log);
    compare(
        "a page of read-ahead, in the middle",
        (
            former_statements::READ_AHEAD,
            json!([integer_value(middle), text_value(&after_key), integer_value(page)]),
        ),
        (&today[1], json!([integer_value(middle), text_value(&after_key), integer_value(page)])),
    )
    .await;
    compare(
        "a page of pruning the change log",
        (former_statements::PRUNE, json!([integer_value(log_kept)])),
        (&today[2], json!([integer_value(log_kept), integer_value(1_000)])),
    )
    .await;
    // Events are deleted once their requests are deleted.
    sqld.run(&[("DELETE FROM usage_requests WHERE seq <= 2000", json!([]))]).await;
    compare(
        "a page of sweeping usage events",
        (former_statements::SWEEP_EVENTS, json!([integer_value(now - kept), integer_value(1_000)])),
        (&today[0], json!([integer_value(kept), integer_value(1_000), text_value("")])),
    )
    .await;

    println!("| {keys} keys, {events} events | rows read before | written | rows read after | written |");
    println!("|---|---|---|---|---|");
    for (what, before, after) in &table {
        println!("| {what} | {} | {} | {} | {} |", before.0, before.1, after.0, after.1);
    }
    println!("| a page of sweeping usage requests | | | {} | {} |", requests.0, requests.1);
    println!("| a page of sweeping sessions by openers | | | {} | {} |", sessions.0, sessions.1);
    assert!(sessions.0 <= 4_500, "{sessions:?}");
    for (what, before, after) in &table {
        assert!(after.0 <= 4_500 && after.0 < before.0, "{what}: {after:?}, before {before:?}");
        assert!(after.1 <= 2_000, "{what}: {after:?}");
    }
    assert!(requests.0 <= 4_500, "{requests:?}");
}
