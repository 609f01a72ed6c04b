//! Which statements arrived, and how often.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::Deserialize;

/// How many requests held each statement, by its text. There are few of those, however long the server runs.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<HashMap<String, u64>>);

/// A pipeline, as far as its statements go.
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

impl Seen {
    /// Notes the statements of a request; what is no pipeline has none.
    pub(crate) fn note(&self, body: &[u8]) {
        let Ok(pipeline) = serde_json::from_slice::<Pipeline<'_>>(body) else { return };
        let mut texts: Vec<_> = pipeline
            .requests
            .into_iter()
            .flat_map(|step| {
                let batch = step.batch.map_or_else(Vec::new, |batch| batch.steps);
                step.stmt.into_iter().chain(batch.into_iter().filter_map(|step| step.stmt))
            })
            .filter_map(|statement| statement.sql)
            .collect();
        texts.sort_unstable();
        texts.dedup();
        let mut seen = self.lock();
        for text in texts {
            match seen.get_mut(&*text) {
                Some(count) => *count += 1,
                None => drop(seen.insert(text.into_owned(), 1)),
            }
        }
    }

    /// How often statements whose text holds `part` arrived.
    pub(crate) fn holding(&self, part: &str) -> u64 {
        self.lock().iter().filter(|(text, _)| text.contains(part)).map(|(_, count)| count).sum()
    }

    /// The statements whose text holds `part`.
    pub(crate) fn texts(&self, part: &str) -> Vec<String> {
        self.lock().keys().filter(|text| text.contains(part)).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        // Every change is one call that cannot be left half-done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
