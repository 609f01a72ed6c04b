//! Probes of the database: whether it answers a read, and whether it accepts a write, which only a write can show.

use super::{Engine, transaction::last_rows};
use crate::{
    database::engine::Statement,
    domain::store::{Call, FailureKind, StoreError},
};

/// Reads a constant, without a table.
///
/// # Errors
/// The failure of the read.
pub async fn read<E: Engine>(engine: &E, call: Call) -> Result<(), StoreError> {
    engine.query(call, Statement::new("SELECT 1")).await.map(drop)
}

/// Increments the heartbeat and decrements it again, in one transaction: the row is unchanged, and two written rows
/// are billed.
///
/// The transaction commits. One that is rolled back, and an UPDATE that matches no row or writes the existing values,
/// write no page: they need the permission and the lock, and succeed on a full disk. A success does not show that
/// there is space for a large write, that a quota is far from exhausted, or that the token may write every table.
///
/// # Errors
/// The failure of the write; [`FailureKind::SchemaMissing`] when there is no heartbeat to write.
pub async fn write<E: Engine>(engine: &E, call: Call) -> Result<(), StoreError> {
    let statements = [
        "UPDATE heartbeat SET beat = beat + 1 WHERE only = 1",
        "UPDATE heartbeat SET beat = beat - 1 WHERE only = 1",
        "SELECT beat FROM heartbeat WHERE only = 1",
    ];
    let rows = last_rows(engine.transaction(call, statements.map(Statement::new).into()).await?)?;
    match rows.first() {
        Some(_) => Ok(()),
        None => Err(StoreError::new(FailureKind::SchemaMissing, "the database has no heartbeat")),
    }
}
