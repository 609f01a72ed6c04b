//! Transactions and their results.

use crate::{
    database::engine::{Engine, Row, Rows, Statement},
    domain::{
        store::{Call, Committed, FailureKind, StoreError},
        verdict::Revision,
    },
};

/// Runs a write as one transaction; returns the rows of each statement, and the last position of the change log after
/// it.
pub(super) async fn commit<E: Engine>(
    engine: &E,
    call: Call,
    mut statements: Vec<Statement>,
) -> Result<Committed<Vec<Rows>>, StoreError> {
    statements.push(Statement::new("SELECT coalesce(max(seq), 0) FROM changes"));
    let mut outcome = engine.transaction(call, statements).await?;
    let last_row = outcome.pop().and_then(|rows| rows.into_iter().next());
    let revision = last_row
        .ok_or_else(|| StoreError::new(FailureKind::InvalidResponse, "the change log returned no position"))?
        .integer(0)?;
    Ok(Committed { outcome, revision: Revision(revision) })
}

/// Returns the rows of the last statement of a transaction.
pub(super) fn last_rows(results: Vec<Vec<Row>>) -> Result<Vec<Row>, StoreError> {
    results
        .into_iter()
        .next_back()
        .ok_or_else(|| StoreError::new(FailureKind::InvalidResponse, "a transaction returned no results"))
}
