//! The statements received, and how often.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::Deserialize;

/// Counts requests by the texts of their statements. The number of distinct texts stays small, however long
/// the server runs.
#[derive(Debug, Default)]
pub(crate) struct StatementLog(Mutex<HashMap<Vec<String>, u64>>);

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
        *self.lock().entry(texts).or_default() += 1;
    }

    /// Returns how many requests had statements that satisfy the condition.
    pub(crate) fn count_requests(&self, wanted: impl Fn(&[String]) -> bool) -> u64 {
        self.lock().iter().filter(|(texts, _)| wanted(texts)).map(|(_, count)| count).sum()
    }

    /// Returns the statements whose text contains `part`.
    pub(crate) fn texts_containing(&self, part: &str) -> BTreeSet<String> {
        self.lock().keys().flatten().filter(|text| text.contains(part)).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Vec<String>, u64>> {
        // Every change is one call that cannot be left half-done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
