//! Rows are billed: what each operation reads and writes is held to a budget, in a database that is filled to scale.
//!
//! The rows are counted by the engine, as a real server reports them. With `TENANT_AUTH_TEST_LONG` the database has a
//! million keys.

mod operations;

use std::fmt::Write as _;

use self::operations::run_operations;
use crate::harness::{
    TestDatabase,
    scale::{FilledDatabase, OperationRows, Scale},
    statements::query_plan,
};

/// What an operation may read and write.
#[derive(Clone, Copy, Debug)]
enum Budget {
    /// In all its statements together.
    InAll { read: u64, written: u64 },
    /// In each statement: it walks through everything, in pages.
    PerStatement { read: u64, written: u64 },
}

const fn in_all(read: u64, written: u64) -> Budget {
    Budget::InAll { read, written }
}

const fn per_statement(read: u64, written: u64) -> Budget {
    Budget::PerStatement { read, written }
}

/// Rows per operation. The rows of a page that is returned, and of what is written, are part of them.
const BUDGETS: [(&str, Budget); 63] = [
    ("validate a key", in_all(5, 0)),
    ("validate a cached key", in_all(0, 0)),
    ("validate an unknown key", in_all(6, 0)),
    ("validate 64 keys in a batch", in_all(194, 0)),
    ("validate a session", in_all(7, 0)),
    ("get a key", in_all(2, 0)),
    ("explain a key", in_all(4, 0)),
    ("get a tenant", in_all(1, 0)),
    ("list tenants", in_all(101, 0)),
    ("list tenants: page 5", in_all(101, 0)),
    ("list tenants by name", in_all(102, 0)),
    ("list tenants by name: page 5", in_all(102, 0)),
    ("list keys of a tenant", in_all(4_200, 0)),
    ("list keys of a tenant: page 5", in_all(4_200, 0)),
    ("list keys of a tenant, revoked ones too", in_all(101, 0)),
    ("list keys of a tenant, revoked ones too: page 5", in_all(101, 0)),
    ("list keys by prefix", in_all(4_200, 0)),
    ("list keys by prefix: page 5", in_all(4_200, 0)),
    ("list keys by name", in_all(4_200, 0)),
    ("list keys by name: page 5", in_all(4_200, 0)),
    ("list keys of a tenant by name", in_all(102, 0)),
    ("list sessions of a tenant", in_all(305, 0)),
    ("list sessions of a tenant: page 5", in_all(306, 0)),
    ("list the audit log", in_all(101, 0)),
    ("list the audit log: page 5", in_all(102, 0)),
    ("list the audit log of a tenant", in_all(101, 0)),
    ("list the audit log of a tenant: page 5", in_all(102, 0)),
    ("list the audit log of a caller", in_all(101, 0)),
    ("list the audit log of a caller: page 5", in_all(102, 0)),
    ("list the audit log of an action", in_all(101, 0)),
    ("list the audit log of an action: page 5", in_all(102, 0)),
    ("list the audit log of a caller and a tenant without entries by it", in_all(4_200, 0)),
    ("list the audit log of a caller and an action that it did not take", in_all(4_200, 0)),
    ("query a day's usage by hour", in_all(60, 0)),
    ("query a month's usage by day", in_all(800, 0)),
    ("create a tenant", in_all(9, 12)),
    ("rename a tenant", in_all(11, 12)),
    ("suspend a tenant", in_all(10, 11)),
    ("resume a tenant", in_all(10, 11)),
    ("delete a tenant", in_all(60, 30)),
    ("issue a key", in_all(15, 16)),
    ("change a key's scopes", in_all(11, 11)),
    ("rotate a key", in_all(24, 20)),
    ("revoke a key", in_all(11, 11)),
    ("import 100 keys", in_all(1_113, 1_102)),
    ("report a leaked key", in_all(29, 13)),
    ("bind a session", in_all(24, 9)),
    ("unbind a session", in_all(8, 4)),
    ("record a usage event", in_all(21, 6)),
    ("record 500 usage events of 100 tenants", in_all(516, 403)),
    ("set a limit", in_all(30, 11)),
    ("get the state of limits", in_all(9, 0)),
    ("consume, and get the first lease", in_all(65, 10)),
    // And at most two for each tenant.
    ("start, and preload 1,000 keys", in_all(3_010, 0)),
    ("poll the change log, without news", in_all(6, 0)),
    ("poll the change log, with one change", in_all(9, 0)),
    ("write the heartbeat", in_all(8, 1)),
    ("write the last-used times of 67 keys", in_all(260, 130)),
    ("prune the change log", per_statement(3_000, 2_000)),
    ("sweep sessions", per_statement(4_500, 2_000)),
    ("sweep usage", per_statement(5_000, 1_000)),
    ("sweep limits", per_statement(10, 5)),
    // Of 24 hours, with the events of a tenant in each: it grows with those.
    ("compare usage totals", per_statement(12_000, 0)),
];

#[tokio::test]
async fn rows_of_each_operation_stay_within_its_budget() {
    let is_long = std::env::var_os("TENANT_AUTH_TEST_LONG").is_some();
    let mut small = FilledDatabase::fill(Scale::SMALL).await;
    run_operations(&mut small).await;
    let mut large = FilledDatabase::fill(if is_long { Scale::LARGE } else { Scale::MEDIUM }).await;
    run_operations(&mut large).await;
    println!("{}", table(&small, &large));
    let mut failures = Vec::new();
    for (name, rows) in &large.operations {
        let Some((_, budget)) = BUDGETS.iter().find(|(of, _)| of == name) else {
            failures.push(format!("{name}: has no budget"));
            continue;
        };
        if !budget.allows(rows) {
            failures.push(format!("{name}: {rows:?} exceeds {budget:?}"));
        }
    }
    for (name, _) in BUDGETS {
        if !large.operations.contains_key(name) {
            failures.push(format!("{name}: has a budget, and is not measured"));
        }
    }
    failures.extend(large.statements.iter().flat_map(|statement| scans(&large.database, statement)));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

impl Budget {
    fn allows(self, rows: &OperationRows) -> bool {
        match self {
            Self::InAll { read, written } => rows.read <= read && rows.written <= written,
            Self::PerStatement { read, written } => rows.max_read <= read && rows.max_written <= written,
        }
    }
}

fn table(small: &FilledDatabase, large: &FilledDatabase) -> String {
    let mut table = String::from(
        "| operation | statements | rows read | with fewer records | rows written | most per statement |\n|---|---|---|---|---|---|\n",
    );
    for (name, rows) in &large.operations {
        let before = small.operations.get(name).copied().unwrap_or_default();
        let OperationRows { statements, read, written, max_read, max_written } = rows;
        let _ = writeln!(
            table,
            "| {name} | {statements} | {read} | {} | {written} | {max_read}, {max_written} |",
            before.read
        );
    }
    table
}

/// Tables that grow with the number of customers, or with time.
const GROWING_TABLES: [&str; 13] = [
    "tenants",
    "api_keys",
    "session_bindings",
    "session_counts",
    "usage_requests",
    "usage_events",
    "usage_totals",
    "audit_log",
    "changes",
    "key_leaks",
    "limit_counters",
    "limit_leases",
    "limit_reservations",
];

/// What is scanned in the order of its key, up to a limit.
const CUT_SCANS: [&str; 1] = ["FROM usage_requests ORDER BY seq LIMIT"];

/// What is wrong with the plan of a statement: a scan. A sort only sorts rows that were read, which the budget bounds.
fn scans(database: &TestDatabase, statement: &str) -> Vec<String> {
    if !["SELECT", "INSERT", "UPDATE", "DELETE", "WITH"].iter().any(|verb| statement.starts_with(verb)) {
        return Vec::new();
    }
    let plan = query_plan(database.server(), statement);
    let table = |step: &str| {
        let scanned = step.strip_prefix("SCAN ")?.split(' ').next()?;
        let is_cut = CUT_SCANS.iter().any(|cut| cut.contains(scanned) && statement.contains(cut));
        GROWING_TABLES.into_iter().find(|table| *table == scanned && !is_cut)
    };
    let scanned = plan.iter().filter_map(|(_, step)| table(step));
    scanned.map(|table| format!("scan of {table}: {statement}")).collect()
}
