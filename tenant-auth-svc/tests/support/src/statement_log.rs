//! The statements received, how often, and the rows that they have read and written.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::Deserialize;

use crate::server::HranaServer;

/// Counts requests by the texts of their statements. The number of distinct texts stays small, however long
/// the server runs.
#[derive(Debug, Default)]
pub(crate) struct StatementLog {
    requests: Mutex<HashMap<Vec<String>, u64>>,
    rows: Mutex<BTreeMap<String, StatementRows>>,
}

/// The rows of one statement, as the engine counts and Turso bills them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatementRows {
    /// How often it was executed.
    pub executions: u64,
    /// Rows read by all executions.
    pub read: u64,
    /// Rows written by all executions, those of triggers and indexes included.
    pub written: u64,
    /// The most that one execution read.
    pub max_read: u64,
    /// The most that one execution wrote.
    pub max_written: u64,
}

/// The statements of a pipeline.
#[derive(Deserialize)]
struct Pipeline<'a> {
    #[serde(borrow, default)]
    requests: Vec<Step<'a>>,
}

#[derive(Deserialize)]
struct Step<'a> {
    #[serde(borrow)]
    stmt: Option<Sql<'a>>,
    #[serde(borrow)]
    batch: Option<Batch<'a>>,
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow, default)]
    steps: Vec<Step<'a>>,
}

#[derive(Deserialize)]
struct Sql<'a> {
    #[serde(borrow)]
    sql: Option<Cow<'a, str>>,
}

impl HranaServer {
    /// Returns how many rows the statements have read and written since the last call, by their text.
    #[must_use]
    pub fn take_rows(&self) -> BTreeMap<String, StatementRows> {
        self.shared.statement_log.take_rows()
    }
}

impl StatementLog {
    /// Records the statements of a request. A body that is not a pipeline has none.
    pub(crate) fn record(&self, body: &[u8]) {
        let Ok(pipeline) = serde_json::from_slice::<Pipeline<'_>>(body) else { return };
        let texts = pipeline
            .requests
            .into_iter()
            .flat_map(|step| {
                let batch = step.batch.map_or_else(Vec::new, |batch| batch.steps);
                step.stmt.into_iter().chain(batch.into_iter().filter_map(|step| step.stmt))
            })
            .filter_map(|statement| statement.sql.map(Cow::into_owned))
            .collect();
        *self.requests().entry(texts).or_default() += 1;
    }

    /// Records an executed statement.
    pub(crate) fn record_rows(&self, statement: &str, read: u64, written: u64) {
        let mut rows = self.rows();
        let of_statement = match rows.get_mut(statement) {
            Some(known) => known,
            None => rows.entry(statement.to_owned()).or_default(),
        };
        of_statement.executions += 1;
        of_statement.read += read;
        of_statement.written += written;
        of_statement.max_read = of_statement.max_read.max(read);
        of_statement.max_written = of_statement.max_written.max(written);
    }

    pub(crate) fn take_rows(&self) -> BTreeMap<String, StatementRows> {
        std::mem::take(&mut self.rows())
    }

    /// Returns how many requests had statements that satisfy the condition.
    pub(crate) fn count_requests(&self, wanted: impl Fn(&[String]) -> bool) -> u64 {
        self.requests().iter().filter(|(texts, _)| wanted(texts)).map(|(_, count)| count).sum()
    }

    /// Returns the statements whose text contains `part`.
    pub(crate) fn texts_containing(&self, part: &str) -> BTreeSet<String> {
        self.requests().keys().flatten().filter(|text| text.contains(part)).cloned().collect()
    }

    fn requests(&self) -> MutexGuard<'_, HashMap<Vec<String>, u64>> {
        // Every change is one call that cannot be left half-done.
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<String, StatementRows>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
