//! Statements that belong together.

use super::wire::{Batch, StepCondition, Stmt};
use crate::database::engine::Statement;

/// `BEGIN IMMEDIATE`, the statements, `COMMIT`, each only if the previous one succeeded; and `ROLLBACK` if the
/// transaction began but did not commit. A pipeline without conditions would continue after an error.
pub(super) fn transaction_batch(statements: &[Statement]) -> Batch {
    let mut batch = Batch::default();
    batch.push(None, Stmt::without_rows("BEGIN IMMEDIATE"));
    for statement in statements {
        let before = batch.last_step();
        batch.push(Some(StepCondition::ok(before)), Stmt::new(statement));
    }
    let before = batch.last_step();
    batch.push(Some(StepCondition::ok(before)), Stmt::without_rows("COMMIT"));
    let commit = batch.last_step();
    let begun_without_commit =
        StepCondition::all([StepCondition::ok(0), StepCondition::not(StepCondition::ok(commit))]);
    batch.push(Some(begun_without_commit), Stmt::without_rows("ROLLBACK"));
    batch
}

/// The statement, and a write that is never executed: a read replica forwards a whole batch to its primary if it
/// contains a write. Nothing is locked there, because the write does not run.
pub(super) fn primary_batch(statement: &Statement) -> Batch {
    let mut batch = Batch::default();
    batch.push(None, Stmt::new(statement));
    let failed = StepCondition::not(StepCondition::ok(0));
    batch.push(Some(failed), Stmt::without_rows("UPDATE heartbeat SET beat = beat WHERE only = 0"));
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_step_requires_the_previous_step() {
        let statements = [Statement::new("INSERT"), Statement::new("SELECT")];
        let batch = serde_json::to_value(transaction_batch(&statements)).unwrap();
        let conditions: Vec<_> =
            batch["steps"].as_array().unwrap().iter().map(|step| step["condition"].to_string()).collect();
        assert_eq!(conditions[0], "null");
        assert_eq!(conditions[1], r#"{"step":0,"type":"ok"}"#);
        assert_eq!(conditions[3], r#"{"step":2,"type":"ok"}"#);
        assert_eq!(
            conditions[4],
            r#"{"conds":[{"step":0,"type":"ok"},{"cond":{"step":3,"type":"ok"},"type":"not"}],"type":"and"}"#
        );
    }
}
