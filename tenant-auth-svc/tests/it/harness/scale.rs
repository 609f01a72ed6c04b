//! A database that is filled to scale, and the rows that an operation reads and writes in it.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};
use tenant_auth_svc::domain::clock::SystemClock;
use tenant_auth_testkit::{HranaServer, StatementRows};

use super::{BACKGROUND_STATEMENTS, TestDatabase, TestService};

const DAY: i64 = 86_400_000;
const HOUR: i64 = 3_600_000;
/// Number of rows per statement when seeding.
const ROWS_PER_STATEMENT: i64 = 100_000;

/// The tenant that has half of everything.
pub(crate) const LARGE_TENANT: &str = "ten_large";
/// A tenant with a few keys, none of which is revoked.
pub(crate) const SMALL_TENANT: &str = "ten_small";
/// The keys of the small tenant, which are valid and have no sessions.
pub(crate) const SMALL_KEYS: i64 = 200;

/// A part of the statements of the heartbeat, and of the poll of the change log.
pub(crate) const HEARTBEAT: &str = "heartbeat";

/// How many sessions, usage requests and usage events of the large tenant have expired.
const EXPIRED: i64 = 2_500;

/// How many rows of each kind a database has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    pub(crate) tenants: i64,
    /// Keys, and as many sessions and audit entries. Half of the keys are the large tenant's, and every other one is
    /// revoked.
    pub(crate) keys: i64,
    pub(crate) usage_events: i64,
}

impl Scale {
    pub(crate) const SMALL: Self = Self { tenants: 120, keys: 4_000, usage_events: 4_000 };
    pub(crate) const MEDIUM: Self = Self { tenants: 480, keys: 16_000, usage_events: 16_000 };
    /// The inserts alone take minutes.
    pub(crate) const LARGE: Self = Self { tenants: 10_000, keys: 1_000_000, usage_events: 5_000_000 };
}

/// A filled database and a service on it.
pub(crate) struct FilledDatabase {
    pub(crate) database: TestDatabase,
    pub(crate) service: TestService,
    /// The rows of each operation so far, by name.
    pub(crate) operations: BTreeMap<String, OperationRows>,
    /// Every statement that the operations have sent.
    pub(crate) statements: BTreeSet<String>,
}

/// The rows of one operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OperationRows {
    pub(crate) statements: u64,
    pub(crate) read: u64,
    pub(crate) written: u64,
    /// The most that one statement read.
    pub(crate) max_read: u64,
    /// The most that one statement wrote.
    pub(crate) max_written: u64,
}

impl FilledDatabase {
    /// Fills a new database, and starts a service on it that has preloaded nothing.
    pub(crate) async fn fill(scale: Scale) -> Self {
        let database = TestDatabase::test_server().await;
        let creator = TestService::start(&database).await;
        creator.running.stop().await;
        seed(database.server(), scale);
        seed_leases(database.server(), scale.tenants);
        seed_expired(database.server());
        let settings = database
            .settings()
            .with_flag("TENANT_AUTH_CACHE_KEYS", Some("1000".to_owned()))
            .with_flag("TENANT_AUTH_HEARTBEAT_INTERVAL", Some("1s".to_owned()));
        drop(database.server().take_rows());
        let service = TestService::start_with(settings, SystemClock::shared()).await;
        let mut filled = Self { database, service, operations: BTreeMap::new(), statements: BTreeSet::new() };
        filled.record("start, and preload 1,000 keys", |_| true);
        filled
    }

    /// Runs an operation, and records its rows. Those of what a replica does by itself are not counted.
    pub(crate) async fn measure<T>(
        &mut self,
        name: &str,
        operation: impl AsyncFnOnce(&TestService) -> T,
    ) -> T {
        drop(self.database.server().take_rows());
        let outcome = operation(&self.service).await;
        let is_own = |statement: &str| {
            !BACKGROUND_STATEMENTS.iter().chain(&[HEARTBEAT]).any(|part| statement.contains(part))
        };
        self.record(name, is_own);
        outcome
    }

    /// Runs something that a replica does by itself, and records the rows of the statements that contain one of `parts`.
    pub(crate) async fn measure_job<T>(
        &mut self,
        name: &str,
        parts: &[&str],
        job: impl AsyncFnOnce(&TestService, &TestDatabase) -> T,
    ) -> T {
        drop(self.database.server().take_rows());
        let outcome = job(&self.service, &self.database).await;
        self.record(name, |statement| parts.iter().any(|part| statement.contains(part)));
        outcome
    }

    fn record(&mut self, name: &str, is_counted: impl Fn(&str) -> bool) {
        let mut rows = self.database.server().take_rows();
        subtract_background_transactions(&mut rows);
        rows.retain(|statement, _| is_counted(statement));
        let mut sum = OperationRows::default();
        for StatementRows { executions, read, written, max_read, max_written } in rows.values() {
            sum.statements += executions;
            sum.read += read;
            sum.written += written;
            sum.max_read = sum.max_read.max(*max_read);
            sum.max_written = sum.max_written.max(*max_written);
        }
        self.statements.extend(rows.into_keys());
        assert_eq!(self.operations.insert(name.to_owned(), sum), None, "{name} is measured twice");
    }
}

/// Subtracts what every transaction sends, for the transactions of what a replica does by itself meanwhile: they look like
/// those of the operation.
fn subtract_background_transactions(rows: &mut BTreeMap<String, StatementRows>) {
    let is_write = |statement: &str| ["UPDATE", "DELETE"].iter().any(|verb| statement.starts_with(verb));
    let is_background = |statement: &str| {
        BACKGROUND_STATEMENTS.iter().chain(&[HEARTBEAT]).any(|part| statement.contains(part))
    };
    let transactions: u64 = rows
        .iter()
        .filter(|(statement, _)| is_write(statement) && is_background(statement))
        .map(|(_, rows)| rows.executions)
        .sum();
    let is_frame = |statement: &str| {
        ["BEGIN IMMEDIATE", "COMMIT"].contains(&statement) || statement.contains("found.log_end")
    };
    for (_, frame) in rows.iter_mut().filter(|(statement, _)| is_frame(statement)) {
        let left = frame.executions.saturating_sub(transactions);
        frame.read = frame.read * left / frame.executions.max(1);
        frame.executions = left;
    }
}

/// The plaintext of the key with a number, of the small tenant.
pub(crate) fn small_key(number: i64) -> String {
    format!("small-key-{number:020}")
}

fn seed(server: &HranaServer, scale: Scale) {
    let Scale { tenants, keys, usage_events } = scale;
    let now = machine_now();
    let hour = now / HOUR * HOUR;
    insert(
        server,
        tenants,
        "INSERT INTO tenants (id, name, plan, created_at, updated_at) \
         SELECT 'ten_' || n, 'Customer ' || n, 'plan-' || (n % 3), 1, 1 FROM series",
    );
    for (id, name) in [(LARGE_TENANT, "Large"), (SMALL_TENANT, "Small")] {
        server
            .execute(&format!(
                "INSERT INTO tenants (id, name, plan, created_at, updated_at) VALUES ('{id}', '{name}', 'pro', 1, 1)"
            ))
            .unwrap();
    }
    // Expired sessions and revoked keys are the oldest ones, as they are in reality.
    insert(
        server,
        keys,
        &format!(
            "INSERT INTO api_keys (key_hash, id, tenant_id, name, prefix_hint, created_at, revoked_at, last_used_at) \
             SELECT randomblob(32), 'key_' || n, CASE WHEN n % 2 = 0 THEN '{LARGE_TENANT}' ELSE 'ten_' || (n % {tenants} + 1) END, \
                    'production ' || (n % 100), 'ta_' || substr(hex(randomblob(4)), 1, 4), 1, \
                    CASE WHEN n <= {keys} / 2 THEN 1 END, CASE WHEN n % 10 > 0 THEN {now} - n * 10 END FROM series"
        ),
    );
    for number in 1..=SMALL_KEYS {
        let hash = hex::encode(Sha256::digest(small_key(number)));
        server
            .execute(&format!(
                "INSERT INTO api_keys (key_hash, id, tenant_id, name, prefix_hint, created_at) \
                 VALUES (x'{hash}', 'key_small_{number}', '{SMALL_TENANT}', 'production {number}', 'small-key', 1)"
            ))
            .unwrap();
    }
    insert(
        server,
        keys,
        &format!(
            "INSERT INTO session_bindings (session_id, tenant_id, key_id, created_at, expires_at, ttl, sliding, bind_id) \
             SELECT 'session_' || n, CASE WHEN n % 2 = 0 THEN '{LARGE_TENANT}' ELSE 'ten_' || (n % {tenants} + 1) END, \
                    'key_' || n, n, {now} + {DAY}, {DAY}, 1, 'x' FROM series"
        ),
    );
    insert(
        server,
        keys,
        &format!(
            "INSERT INTO audit_log (at, caller, action, target, tenant_id, request_id) \
             SELECT {now} - {keys} + n, 'seed', 'key.issue', 'key_' || n, \
                    CASE WHEN n % 2 = 0 THEN '{LARGE_TENANT}' ELSE 'ten_' || (n % {tenants} + 1) END, 'r' || n FROM series"
        ),
    );
    // Of 30 days, and of 50 per request.
    insert(
        server,
        usage_events / 50,
        &format!(
            "INSERT INTO usage_requests (seq, request_id, payload_hash, first_seen_at, batch, refused, unknown_tenants) \
             SELECT n, 'r' || n, zeroblob(32), {now} - n % {DAY}, 1, '[]', '[]' FROM series"
        ),
    );
    insert(
        server,
        usage_events,
        &format!(
            "INSERT INTO usage_events (tenant_id, hour, metric, request, quantity) \
             SELECT CASE WHEN n % 2 = 0 THEN '{LARGE_TENANT}' ELSE 'ten_' || (n % {tenants} + 1) END, \
                    {hour} - {HOUR} * (n % 720), 'calls', n / 50 + 1, 1 FROM series WHERE true \
             ON CONFLICT DO NOTHING"
        ),
    );
}

/// Adds leases of limits, of three replicas.
fn seed_leases(server: &HranaServer, leases: i64) {
    let tomorrow = machine_now() + DAY;
    insert(
        server,
        leases,
        &format!(
            "INSERT INTO limit_leases (holder, tenant_id, key_id, name, kind, window_start, amount, seq, last_grant, expires_at) \
             SELECT 'holder_' || (n % 3), 'ten_' || n, '', 'daily', 'day', 0, 1, 1, 1, {tomorrow} FROM series"
        ),
    );
}

/// Adds rows that sweeps delete: sessions that ended, and usage that is older than its retention.
fn seed_expired(server: &HranaServer) {
    let (now, old) = (machine_now(), machine_now() / HOUR * HOUR - 40 * DAY);
    insert(
        server,
        EXPIRED,
        &format!(
            "INSERT INTO session_bindings (session_id, tenant_id, key_id, created_at, expires_at, ttl, sliding, bind_id) \
             SELECT 'expired_' || n, '{LARGE_TENANT}', 'key_2', 1, {now} - 7 * {DAY} + n, {DAY}, 0, 'x' FROM series"
        ),
    );
    insert(
        server,
        EXPIRED,
        &format!(
            "INSERT INTO usage_requests (request_id, payload_hash, first_seen_at, batch, refused, unknown_tenants) \
             SELECT 'old' || n, zeroblob(32), {old} + n, 1, '[]', '[]' FROM series"
        ),
    );
    insert(
        server,
        EXPIRED,
        &format!(
            "INSERT INTO usage_events (tenant_id, hour, metric, request, quantity) \
             SELECT '{LARGE_TENANT}', {old}, 'calls', -n, 1 FROM series"
        ),
    );
}

/// Inserts rows with numbers from 1.
fn insert(server: &HranaServer, rows: i64, insert: &str) {
    for first in (1..=rows).step_by(usize::try_from(ROWS_PER_STATEMENT).unwrap()) {
        let last = rows.min(first + ROWS_PER_STATEMENT - 1);
        let series = format!(
            "WITH RECURSIVE series (n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM series WHERE n < {last}) {insert}"
        );
        server.execute(&series).unwrap();
    }
}

fn machine_now() -> i64 {
    SystemClock::shared().now().0
}
