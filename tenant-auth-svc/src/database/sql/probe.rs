//! Whether the database answers a read, and takes a write: nothing but a write shows that.

use super::{Engine, last_rows};
use crate::{
    database::engine::Statement,
    domain::store::{Call, FailureKind, StoreError},
};

/// Reads a number that stands in no table.
///
/// # Errors
/// How the read failed.
pub async fn read<E: Engine>(engine: &E, call: Call) -> Result<(), StoreError> {
    engine.query(call, Statement::new("SELECT 1")).await.map(drop)
}

/// Raises the heartbeat and lowers it again, in one transaction: the row is as it was, and two written rows are billed.
///
/// It commits. One that is rolled back, and an UPDATE that matches no row or gives a row the values that it has, write no page: they
/// need the permission and the lock, and succeed on a full disk. That it succeeds does not show that there is room for a large write,
/// that a quota is far from its end, or that the token may write every table.
///
/// # Errors
/// How the write failed; [`FailureKind::SchemaMissing`] when there is no heartbeat to write.
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
