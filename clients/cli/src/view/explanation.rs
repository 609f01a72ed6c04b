//! The view of `key explain`: a sentence, and what it follows from.

mod sentence;

use serde::Serialize;
use tenant_auth_client::proto::{self, Source, Verdict};

use super::{EventView, KeyStateView, key_state::verdict_name, lookups_name, non_empty, to_moment, to_text};
use crate::{
    output::{self, View},
    time::{Moment, format_coarse},
};

/// The parts of the request that the sentence names.
#[derive(Debug, Default)]
pub(crate) struct ExplainedRequest {
    pub(crate) client_address: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ExplanationView {
    sentence: String,
    /// `UNDECIDED` if the replica can give no verdict now.
    verdict: String,
    key_id: Option<String>,
    missing_scopes: Vec<String>,
    denied_by_list: bool,
    /// What the database contains; absent if it does not contain the key or could not be read.
    database: Option<KeyStateView>,
    database_error: Option<String>,
    /// What the answering replica has in memory; absent if it has nothing.
    memory: Option<MemoryRow>,
    /// When the replica applied the last change of the key that it remembers.
    last_change_applied_at: Option<Moment>,
    lookups: Option<&'static str>,
    /// To the hour.
    last_used: Option<String>,
    /// The latest changes of the key and of its tenant, the latest first.
    events: Vec<EventView>,
}

/// The record in the memory of a replica.
#[derive(Debug, Serialize)]
struct MemoryRow {
    verdict: String,
    source: &'static str,
    age_ms: u128,
    revision: i64,
    #[serde(skip)]
    text: String,
}

impl MemoryRow {
    fn new(cached: &proto::CachedKey) -> Self {
        let source = match cached.source() {
            Source::Fresh => "fresh",
            Source::Refreshing => "refreshing",
            Source::Stale => "stale",
            _ => "read again first",
        };
        let age = cached.age.and_then(|age| age.try_into().ok()).unwrap_or_default();
        let verdict = verdict_name(cached.verdict());
        let text = format!("{verdict}, {source}, {} old, revision {}", format_coarse(age), cached.revision);
        Self { verdict, source, age_ms: age.as_millis(), revision: cached.revision, text }
    }
}

impl ExplanationView {
    pub(crate) fn new(explained: proto::ExplainKeyResponse, request: ExplainedRequest) -> Self {
        let sentence = sentence::explain(&explained, &request);
        let verdict = match explained.verdict() {
            Verdict::Unspecified => "UNDECIDED".to_owned(),
            verdict => verdict_name(verdict),
        };
        let replica = explained.replica.as_ref();
        let key = explained.database.as_ref().and_then(|database| database.key.as_ref());
        let last_used = to_moment(key.and_then(|key| key.last_used_at)).map(Moment::to_hour_text);
        let mut events: Vec<_> = explained.key_events.into_iter().chain(explained.tenant_events).collect();
        events.sort_by_key(|event| std::cmp::Reverse((to_moment(event.at), event.seq)));
        Self {
            sentence,
            verdict,
            key_id: non_empty(explained.key_id),
            missing_scopes: explained.missing_scopes,
            denied_by_list: explained.denied_by_list,
            memory: replica.and_then(|replica| replica.cached.as_ref()).map(MemoryRow::new),
            last_change_applied_at: to_moment(
                replica.and_then(|replica| replica.last_change.as_ref()?.applied_at),
            ),
            lookups: replica.map(|replica| lookups_name(replica.lookups())),
            database: explained.database.map(KeyStateView::new),
            database_error: explained.database_error.map(|error| error.message),
            last_used,
            events: events.into_iter().map(EventView::new).collect(),
        }
    }
}

impl View for ExplanationView {
    fn text(&self) -> String {
        let database = match (&self.database, &self.database_error) {
            (Some(state), _) => state.verdict().to_owned(),
            (None, Some(error)) => format!("not read: {error}"),
            (None, None) => "does not contain it".to_owned(),
        };
        let memory = self.memory.as_ref().map_or_else(|| "nothing".to_owned(), |memory| memory.text.clone());
        let mut rows = vec![
            ("verdict", self.verdict.clone()),
            ("key", to_text(self.key_id.as_ref())),
            ("tenant", self.database.as_ref().map_or_else(String::new, |state| state.tenant_id().to_owned())),
            ("database", database),
            ("memory", memory),
            ("change applied", to_text(self.last_change_applied_at)),
            ("lookups", to_text(self.lookups)),
            ("last used", to_text(self.last_used.as_ref())),
        ];
        rows.extend(self.events.iter().map(|event| ("change", event.line())));
        format!("{}\n\n{}", self.sentence, output::details(&rows))
    }
}
