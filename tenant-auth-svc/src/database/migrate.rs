//! Migrates the schema to the version that this build knows.
//!
//! Each migration is one transaction that starts by inserting its number into `schema_migrations`: of two replicas
//! that start together, the second finds the number taken, changes nothing, and reads the result of the first.

mod error;

use std::time::Duration;

use sha2::{Digest as _, Sha256};

pub use self::error::SchemaError;
use super::{
    engine::{Engine, Statement},
    sql::peppers::{find_differing, find_missing, record_checks},
};
use crate::domain::{
    clock::SharedClock,
    key::Peppers,
    store::{Call, FailureKind, Lane, StoreError},
};

/// Timeout of one migration.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(60);

/// A numbered change of the schema.
struct Migration {
    version: i32,
    name: &'static str,
    sql: &'static str,
}

/// The files in `migrations/`, in order. The build script lists them.
const MIGRATIONS: &[Migration] = include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// The schema version of this build.
pub const KNOWN_VERSION: i32 = MIGRATIONS[MIGRATIONS.len() - 1].version;

/// Applies the missing migrations; returns the names of those that this call applied.
///
/// # Errors
/// [`SchemaError::Newer`] and [`SchemaError::Edited`] before anything is changed; [`SchemaError::ReadReplicaLagging`] after
/// everything was.
pub async fn migrate<E: Engine>(engine: &E, clock: &SharedClock) -> Result<Vec<&'static str>, SchemaError> {
    apply_missing(engine, clock, true).await
}

/// Like [`migrate`], but does not create a schema in an empty database.
///
/// # Errors
/// As [`migrate`], and [`SchemaError::Empty`].
pub async fn upgrade<E: Engine>(engine: &E, clock: &SharedClock) -> Result<Vec<&'static str>, SchemaError> {
    apply_missing(engine, clock, false).await
}

async fn apply_missing<E: Engine>(
    engine: &E,
    clock: &SharedClock,
    create_schema: bool,
) -> Result<Vec<&'static str>, SchemaError> {
    let create = Statement::new(
        "CREATE TABLE IF NOT EXISTS schema_migrations \
         (version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at INTEGER NOT NULL)",
    );
    // Only if needed: a read-only token must be able to start on a migrated schema.
    if !has_migrations_table(engine).await? {
        if !create_schema {
            return Err(SchemaError::Empty);
        }
        engine.transaction(maintenance_call(), vec![create]).await?;
    }
    let mut applied = Vec::new();
    let found = match applied_version(engine).await {
        // The primary has the table, but the read replica does not show it yet.
        Err(SchemaError::Store(error)) if error.kind == FailureKind::SchemaMissing => {
            return Err(SchemaError::ReadReplicaLagging { found: 0 });
        }
        found => found?,
    };
    for migration in MIGRATIONS.iter().filter(|migration| i64::from(migration.version) > found) {
        if apply_migration(engine, migration, clock).await? {
            applied.push(migration.name);
        }
    }
    match verify(engine).await {
        Err(SchemaError::Older { found }) => Err(SchemaError::ReadReplicaLagging { found }),
        outcome => outcome.map(|()| applied),
    }
}

/// Checks that the schema is exactly the one that this build knows.
///
/// # Errors
/// As [`migrate`], [`SchemaError::Empty`], and [`SchemaError::Older`].
pub async fn verify<E: Engine>(engine: &E) -> Result<(), SchemaError> {
    if !has_migrations_table(engine).await? {
        return Err(SchemaError::Empty);
    }
    let found = applied_version(engine).await?;
    if found < i64::from(KNOWN_VERSION) { Err(SchemaError::Older { found }) } else { Ok(()) }
}

/// Checks that every live key is stored under a configured pepper, or under none, and that each pepper has the secret
/// that it was first used with.
///
/// # Errors
/// [`SchemaError::UnknownPepper`] names a missing pepper, [`SchemaError::PepperDiffers`] one with another secret.
pub async fn verify_peppers<E: Engine>(engine: &E, peppers: &Peppers) -> Result<(), SchemaError> {
    let file = peppers.file().map(str::to_owned);
    if let Some(id) = find_differing(engine, peppers, maintenance_call()).await? {
        return Err(SchemaError::PepperDiffers { id, file: file.unwrap_or_default() });
    }
    match find_missing(engine, peppers, maintenance_call()).await? {
        Some(id) => Err(SchemaError::UnknownPepper { id, file }),
        None => Ok(()),
    }
}

/// Records the peppers that are used for the first time, so that no replica uses their ids with other secrets.
///
/// # Errors
/// When the database rejects the write or does not respond.
pub async fn record_peppers<E: Engine>(engine: &E, peppers: &Peppers) -> Result<(), SchemaError> {
    Ok(record_checks(engine, peppers, maintenance_call()).await?)
}

async fn has_migrations_table<E: Engine>(engine: &E) -> Result<bool, SchemaError> {
    let statement = Statement::new(
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'schema_migrations'",
    );
    let rows = engine.query(maintenance_call(), statement).await?;
    match rows.as_slice() {
        [row] => Ok(row.integer(0)? > 0),
        _ => Err(StoreError::new(FailureKind::InvalidResponse, "a count is not one row").into()),
    }
}

/// Returns the version of the schema, after comparing the applied migrations with those of this build.
async fn applied_version<E: Engine>(engine: &E) -> Result<i64, SchemaError> {
    let statement = Statement::new(
        "SELECT version, checksum FROM (SELECT 1) LEFT JOIN schema_migrations ON TRUE ORDER BY version",
    );
    let mut found = 0;
    for row in engine.query(maintenance_call(), statement).await? {
        let Some(version) = row.optional_integer(0)? else { break };
        let Some(known) = MIGRATIONS.iter().find(|migration| i64::from(migration.version) == version) else {
            return Err(SchemaError::Newer { found: version });
        };
        if row.text(1)? != checksum(known.sql) {
            return Err(SchemaError::Edited { version });
        }
        found = version;
    }
    Ok(found)
}

async fn apply_migration<E: Engine>(
    engine: &E,
    migration: &Migration,
    clock: &SharedClock,
) -> Result<bool, SchemaError> {
    let insert_version = Statement::new(
        "INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES (?1, ?2, ?3, ?4)",
    )
    .bind(i64::from(migration.version))
    .bind(migration.name)
    .bind(checksum(migration.sql))
    .bind(clock.now().0);
    let mut statements = vec![insert_version];
    statements.extend(split_statements(migration.sql).into_iter().map(Statement::new));
    match engine.transaction(maintenance_call(), statements).await {
        Ok(_) => Ok(true),
        // Another replica has applied it, or the response to this call's first attempt was lost.
        Err(error) if error.kind == FailureKind::Conflict => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Splits a migration into statements: a statement ends at a line that ends with a semicolon, a trigger at a line
/// `END;`.
fn split_statements(sql: &str) -> Vec<String> {
    let mut statements = Vec::new();
    let mut statement = String::new();
    let code = sql.lines().filter(|line| !line.trim_start().starts_with("--"));
    for line in code.filter(|line| !line.trim().is_empty()) {
        statement.push_str(line);
        statement.push('\n');
        let ends = if statement.starts_with("CREATE TRIGGER") { line == "END;" } else { line.ends_with(';') };
        if ends {
            statements.push(std::mem::take(&mut statement));
        }
    }
    statements
}

fn checksum(sql: &str) -> String {
    hex::encode(Sha256::digest(sql.as_bytes()))
}

fn maintenance_call() -> Call {
    Call::within(Lane::Maintenance, MIGRATION_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migration_versions_are_consecutive() {
        let versions: Vec<_> = MIGRATIONS.iter().map(|migration| migration.version).collect();
        assert_eq!(versions, (1..=KNOWN_VERSION).collect::<Vec<_>>());
    }

    #[test]
    fn migrations_split_into_whole_statements() {
        for migration in MIGRATIONS {
            let statements = split_statements(migration.sql);
            assert!(!statements.is_empty());
            let rejoined: usize = statements.iter().map(|statement| statement.lines().count()).sum();
            let code = migration.sql.lines().filter(|l| !l.starts_with("--") && !l.trim().is_empty());
            assert_eq!(rejoined, code.count(), "every line belongs to a statement");
            for statement in statements {
                let is_known = ["ALTER ", "CREATE ", "INSERT ", "DROP INDEX ", "DROP TRIGGER "]
                    .iter()
                    .any(|keyword| statement.starts_with(keyword));
                assert!(is_known, "{statement}");
            }
        }
    }
}
