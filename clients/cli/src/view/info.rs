//! The view of the answering service.

use serde::Serialize;
use tenant_auth_client::{DatabaseKind, ServerInfo};

use crate::{
    output::{self, View},
    time::{Moment, format_coarse},
};

#[derive(Debug, Serialize)]
pub(crate) struct InfoView {
    endpoint: String,
    version: String,
    commit: String,
    dirty: bool,
    branch: String,
    built_at: Option<Moment>,
    database: &'static str,
    revision: i64,
    schema_version: i32,
    uptime_seconds: u64,
    now: Moment,
    #[serde(skip)]
    uptime: String,
}

impl InfoView {
    pub(crate) fn new(endpoint: &str, info: ServerInfo) -> Self {
        let database = match info.database {
            DatabaseKind::Embedded => "embedded",
            DatabaseKind::Remote => "remote",
            _ => "unknown",
        };
        Self {
            endpoint: endpoint.to_owned(),
            version: info.version,
            commit: info.commit,
            dirty: info.dirty,
            branch: info.branch,
            built_at: info.built_at.map(Moment::from),
            database,
            revision: info.revision,
            schema_version: info.schema_version,
            uptime_seconds: info.uptime.as_secs(),
            now: info.now.into(),
            uptime: format_coarse(info.uptime),
        }
    }
}

impl View for InfoView {
    fn text(&self) -> String {
        let changed = if self.dirty { " with changes" } else { "" };
        output::details(&[
            ("endpoint", self.endpoint.clone()),
            ("version", self.version.clone()),
            ("commit", format!("{}{changed}", self.commit)),
            ("branch", self.branch.clone()),
            ("built", self.built_at.map_or_else(String::new, |time| time.to_string())),
            ("database", self.database.to_owned()),
            ("revision", self.revision.to_string()),
            ("schema", self.schema_version.to_string()),
            ("uptime", self.uptime.clone()),
            ("server time", self.now.to_string()),
        ])
    }
}
