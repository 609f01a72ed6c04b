//! The view of the replicas.

use std::time::Duration;

use serde::Serialize;
use tenant_auth_client::ServerInfo;

use super::{lookups_name, to_text};
use crate::{
    failure::ErrorReport,
    output::{self, View},
    time::format_coarse,
};

/// The state of each replica.
#[derive(Debug, Serialize)]
pub(crate) struct ReplicasView {
    replicas: Vec<ReplicaRow>,
}

/// One replica.
#[derive(Debug, Serialize)]
pub(crate) struct ReplicaRow {
    replica: String,
    version: Option<String>,
    commit: Option<String>,
    dirty: Option<bool>,
    applied_revision: Option<i64>,
    feed_age_ms: Option<u128>,
    lookups: Option<&'static str>,
    max_answer_age_ms: Option<u128>,
    oldest_answer_age_ms: Option<u128>,
    uptime_seconds: Option<u64>,
    error: Option<String>,
}

impl ReplicaRow {
    pub(crate) fn new(replica: String, answer: Result<ServerInfo, ErrorReport>) -> Self {
        let (info, error) = match answer {
            Ok(info) => (Some(info), None),
            Err(report) => (None, Some(report.message)),
        };
        let state = info.as_ref().and_then(|info| info.replica);
        let millis = |age: Option<prost_types::Duration>| {
            age.and_then(|age| Duration::try_from(age).ok()).map(|age| age.as_millis())
        };
        Self {
            replica,
            version: info.as_ref().map(|info| info.version.clone()),
            commit: info.as_ref().map(|info| info.commit.clone()),
            dirty: info.as_ref().map(|info| info.dirty),
            applied_revision: state.map(|state| state.applied_revision),
            feed_age_ms: millis(state.and_then(|state| state.feed_age)),
            lookups: state.map(|state| lookups_name(state.lookups())),
            max_answer_age_ms: millis(state.and_then(|state| state.max_answer_age)),
            oldest_answer_age_ms: millis(state.and_then(|state| state.oldest_answer_age)),
            uptime_seconds: info.as_ref().map(|info| info.uptime.as_secs()),
            error,
        }
    }

    fn row(&self) -> Vec<String> {
        let age = |millis: Option<u128>| {
            to_text(millis.map(|millis| {
                format_coarse(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
            }))
        };
        let commit = self.commit.as_ref().map(|commit| {
            let short: String = commit.chars().take(12).collect();
            format!("{short}{}", if self.dirty == Some(true) { " with changes" } else { "" })
        });
        vec![
            self.replica.clone(),
            to_text(self.version.as_ref()),
            to_text(commit),
            to_text(self.applied_revision),
            age(self.feed_age_ms),
            to_text(self.lookups),
            age(self.oldest_answer_age_ms),
            age(self.max_answer_age_ms),
            age(self.uptime_seconds.map(|seconds| u128::from(seconds) * 1_000)),
            to_text(self.error.as_ref()),
        ]
    }
}

impl ReplicasView {
    pub(crate) fn new(replicas: Vec<ReplicaRow>) -> Self {
        Self { replicas }
    }

    /// Whether every replica responded.
    pub(crate) fn is_complete(&self) -> bool {
        self.replicas.iter().all(|replica| replica.error.is_none())
    }
}

impl View for ReplicasView {
    fn text(&self) -> String {
        let header = [
            "REPLICA",
            "VERSION",
            "COMMIT",
            "REVISION",
            "LOG AGE",
            "LOOKUPS",
            "OLDEST ANSWER",
            "MAX AGE",
            "UPTIME",
            "ERROR",
        ];
        output::render_table(&header, self.replicas.iter().map(ReplicaRow::row))
    }
}
