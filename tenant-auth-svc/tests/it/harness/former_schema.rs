//! A database with the schema of an earlier version, and a migration that ends in the middle.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::{TestDatabase, backend, call};
use sha2::{Digest as _, Sha256};
use tenant_auth_svc::{
    database::engine::{Engine, Rows, Statement, Transaction, TransactionResult},
    domain::store::{Call, Lane, StoreError},
};

/// Creates a database in which the migrations up to a version were applied.
pub(crate) async fn database_at(version: usize) -> TestDatabase {
    let database = TestDatabase::test_server().await;
    apply_migrations(&backend(&database), version).await;
    database
}

/// Applies the migrations up to a version to an empty database.
pub(crate) async fn apply_migrations(engine: &impl Engine, version: usize) {
    let create = "CREATE TABLE schema_migrations \
                  (version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at INTEGER NOT NULL)";
    let mut statements = vec![Statement::new(create)];
    for (number, path) in (1..=version).zip(migration_files()) {
        let sql = fs::read_to_string(path).unwrap();
        statements.extend(split(&sql).into_iter().map(Statement::new));
        let checksum = hex::encode(Sha256::digest(&sql));
        let record = format!("INSERT INTO schema_migrations VALUES ({number}, 'former', '{checksum}', 1)");
        statements.push(Statement::new(record));
    }
    engine.transaction(call(Lane::Maintenance), statements).await.unwrap();
}

fn migration_files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.is_file()).collect();
    files.sort();
    files
}

/// The statements of a file: each ends at a line that ends with a semicolon, a trigger at its last line.
fn split(sql: &str) -> Vec<String> {
    let mut statements = Vec::new();
    let mut statement = String::new();
    for line in sql.lines().filter(|line| !line.starts_with("--")) {
        statement += line;
        statement.push('\n');
        let is_trigger = statement.trim_start().starts_with("CREATE TRIGGER");
        if if is_trigger { line == "END;" } else { line.ends_with(';') } {
            statements.push(std::mem::take(&mut statement));
        }
    }
    statements
}

/// An engine whose process is killed while it migrates: before the commit of a transaction, after some of its statements.
pub(crate) struct KilledEngine<E> {
    inner: E,
    allowed: AtomicUsize,
    has_committed: AtomicBool,
}

impl<E: Engine> KilledEngine<E> {
    pub(crate) fn new(inner: E) -> Self {
        Self { inner, allowed: AtomicUsize::new(0), has_committed: AtomicBool::new(false) }
    }

    /// Kills the next transaction after this many statements, unless it has no more; and any later one at once.
    pub(crate) fn kill_after(&self, statements: usize) {
        self.has_committed.store(false, Ordering::Relaxed);
        self.allowed.store(statements, Ordering::Relaxed);
    }

    /// Returns whether a transaction has had no more statements than were allowed.
    pub(crate) fn has_committed(&self) -> bool {
        self.has_committed.load(Ordering::Relaxed)
    }
}

impl<E: Engine> Engine for KilledEngine<E> {
    async fn query(&self, call: Call, statement: Statement) -> Result<Rows, StoreError> {
        self.inner.query(call, statement).await
    }

    async fn transactions(&self, call: Call, mut transactions: Vec<Transaction>) -> Vec<TransactionResult> {
        let [statements] = transactions.as_mut_slice() else {
            panic!("a migration is one transaction at a time")
        };
        let allowed = self.allowed.swap(0, Ordering::Relaxed);
        if statements.len() <= allowed {
            self.has_committed.store(true, Ordering::Relaxed);
        } else {
            statements.truncate(allowed);
            statements.push(Statement::new("SELECT killed()"));
        }
        self.inner.transactions(call, transactions).await
    }
}
