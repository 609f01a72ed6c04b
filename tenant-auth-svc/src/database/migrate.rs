//! Migrates the schema to the version that this build knows.
//!
//! A new database gets the newest schema at once, and the numbers of all migrations. In an older one each missing
//! migration is one transaction that starts by inserting its number into `schema_migrations`: of two replicas that
//! start together, the second finds the number taken, changes nothing, and reads the result of the first. A migration
//! of many rows removes its own number again while rows are left: each transaction is then one page of it.

mod error;
mod statements;

use std::time::Duration;

use sha2::{Digest as _, Sha256};

pub use self::error::SchemaError;
use self::statements::split_statements;
use super::{
    engine::{Engine, Row, Statement},
    sql::peppers::{find_differing, find_missing, record_checks},
};
use crate::domain::{
    clock::{Moment, SharedClock},
    key::Peppers,
    store::{Call, FailureKind, Lane, StoreError},
};

/// Timeout of one transaction of a migration.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(60);
/// Number of pages of a migration between two log lines about it.
const PAGES_PER_LOG_LINE: u64 = 100;

/// A numbered change of the schema.
struct Migration {
    version: i32,
    name: &'static str,
    sql: &'static str,
}

/// The files in `migrations/`, in order. The build script lists them.
const MIGRATIONS: &[Migration] = include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// The schema of [`KNOWN_VERSION`], by area: the result of all migrations.
const NEWEST_SCHEMA: [&str; 5] = [
    include_str!("../../migrations/schema/1_tenants_and_keys.sql"),
    include_str!("../../migrations/schema/2_sessions.sql"),
    include_str!("../../migrations/schema/3_usage.sql"),
    include_str!("../../migrations/schema/4_limits.sql"),
    include_str!("../../migrations/schema/5_identity.sql"),
];

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
    let mut applied = Vec::new();
    // Only read first: a read-only token must be able to start on a migrated schema.
    let mut found = if has_migrations_table(engine).await? {
        applied_version_at_read_replica(engine).await?
    } else if create_schema {
        0
    } else {
        return Err(SchemaError::Empty);
    };
    if found == 0 {
        if create_newest_schema(engine, clock).await? {
            applied.extend(MIGRATIONS.iter().map(|migration| migration.name));
            found = i64::from(KNOWN_VERSION);
        } else {
            found = applied_version_at_read_replica(engine).await?;
        }
    }
    for migration in MIGRATIONS.iter().filter(|migration| i64::from(migration.version) > found) {
        if apply_migration(engine, migration, clock).await? {
            applied.push(migration.name);
        }
    }
    match verify(engine).await {
        Err(SchemaError::Older { found }) => Err(SchemaError::ReadReplicaLagging { found }),
        Err(SchemaError::Empty) => Err(SchemaError::ReadReplicaLagging { found: 0 }),
        outcome => outcome.map(|()| applied),
    }
}

/// Like [`applied_version`], where the primary has the table of migrations, but a read replica may not show it yet.
async fn applied_version_at_read_replica<E: Engine>(engine: &E) -> Result<i64, SchemaError> {
    match applied_version(engine).await {
        Err(SchemaError::Store(error)) if error.kind == FailureKind::SchemaMissing => {
            Err(SchemaError::ReadReplicaLagging { found: 0 })
        }
        found => found,
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
    Ok(first_integer(&engine.query(maintenance_call(), statement).await?)? > 0)
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

/// Creates the newest schema; returns whether this call did, and not another one before it.
async fn create_newest_schema<E: Engine>(engine: &E, clock: &SharedClock) -> Result<bool, SchemaError> {
    let mut statements = vec![Statement::new(
        "CREATE TABLE IF NOT EXISTS schema_migrations \
         (version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at INTEGER NOT NULL)",
    )];
    statements.extend(MIGRATIONS.iter().map(|migration| insert_version(migration, clock)));
    statements.extend(NEWEST_SCHEMA.into_iter().flat_map(split_statements).map(Statement::new));
    match engine.transaction(maintenance_call(), statements).await {
        Ok(_) => Ok(true),
        // Another replica has created it, perhaps an older one: or the response to this call's first attempt was lost.
        Err(error) if error.kind == FailureKind::Conflict => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Applies a migration, in one page or several; returns whether this call applied the last one.
async fn apply_migration<E: Engine>(
    engine: &E,
    migration: &Migration,
    clock: &SharedClock,
) -> Result<bool, SchemaError> {
    let is_recorded = Statement::new("SELECT count(*) FROM schema_migrations WHERE version = ?1")
        .bind(i64::from(migration.version));
    let mut pages: u64 = 0;
    loop {
        let started = Moment::now(clock);
        let mut statements = vec![insert_version(migration, clock)];
        statements.extend(split_statements(migration.sql).into_iter().map(Statement::new));
        statements.push(is_recorded.clone());
        match engine.transaction(maintenance_call(), statements).await {
            Ok(results) => {
                if first_integer(results.last().map(Vec::as_slice).unwrap_or_default())? > 0 {
                    return Ok(true);
                }
            }
            // Another replica has applied it, or the response to this call's first attempt was lost.
            Err(error) if error.kind == FailureKind::Conflict => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        pages += 1;
        if pages.is_multiple_of(PAGES_PER_LOG_LINE) {
            tracing::info!(migration = migration.name, pages, "the migration continues");
        }
        // For as long as the page took, other writers have the database.
        tokio::time::sleep(Moment::now(clock).since(started)).await;
    }
}

fn insert_version(migration: &Migration, clock: &SharedClock) -> Statement {
    Statement::new(
        "INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES (?1, ?2, ?3, ?4)",
    )
    .bind(i64::from(migration.version))
    .bind(migration.name)
    .bind(checksum(migration.sql))
    .bind(clock.now().0)
}

/// Returns the integer that is all of a result.
fn first_integer(rows: &[Row]) -> Result<i64, SchemaError> {
    match rows {
        [row] => Ok(row.integer(0)?),
        _ => Err(StoreError::new(FailureKind::InvalidResponse, "a count is not one row").into()),
    }
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
    fn migrations_and_schema_split_into_whole_statements() {
        let verbs = ["ALTER ", "CREATE ", "DELETE ", "DROP ", "INSERT ", "UPDATE "];
        for sql in MIGRATIONS.iter().map(|migration| migration.sql).chain(NEWEST_SCHEMA) {
            let statements = split_statements(sql);
            assert!(!statements.is_empty());
            let rejoined: usize = statements.iter().map(|statement| statement.lines().count()).sum();
            let code = sql.lines().filter(|l| !l.starts_with("--") && !l.trim().is_empty());
            assert_eq!(rejoined, code.count(), "every line belongs to a statement");
            for statement in statements {
                assert!(verbs.iter().any(|verb| statement.starts_with(verb)), "{statement}");
            }
        }
    }
}
