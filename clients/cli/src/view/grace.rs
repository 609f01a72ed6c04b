//! The view of the grace of one replica.

use std::time::Duration;

use serde::Serialize;
use tenant_auth_client::proto;

use super::{non_empty, to_moment, to_text};
use crate::{
    output::{self, View},
    time::{Moment, format_coarse},
};

#[derive(Debug, Serialize)]
pub(crate) struct GraceView {
    endpoint: String,
    grace_seconds: u64,
    configured_seconds: u64,
    expires_at: Option<Moment>,
    reason: Option<String>,
    /// Present only after a change.
    #[serde(skip_serializing_if = "Option::is_none")]
    audited: Option<bool>,
}

impl GraceView {
    pub(crate) fn new(endpoint: &str, grace: proto::OutageGrace, audited: Option<bool>) -> Self {
        let seconds = |time: Option<prost_types::Duration>| {
            u64::try_from(time.unwrap_or_default().seconds).unwrap_or_default()
        };
        Self {
            endpoint: endpoint.to_owned(),
            grace_seconds: seconds(grace.grace),
            configured_seconds: seconds(grace.configured),
            expires_at: to_moment(grace.expires_at),
            reason: non_empty(grace.reason),
            audited,
        }
    }
}

impl View for GraceView {
    fn text(&self) -> String {
        let format = |seconds| format_coarse(Duration::from_secs(seconds));
        let audited = self.audited.map(|audited| match audited {
            true => "yes",
            false => "not yet: only in the service's log; written to the audit log when the database is reachable again",
        });
        output::details(&[
            ("endpoint", self.endpoint.clone()),
            ("grace", format(self.grace_seconds)),
            ("configured", format(self.configured_seconds)),
            ("until", self.expires_at.map_or_else(String::new, |at| at.with_relative_time(Moment::now()))),
            ("reason", to_text(self.reason.as_ref())),
            ("audited", to_text(audited)),
        ])
    }

    fn note(&self) -> Option<&'static str> {
        Some("this replica only: use --endpoint for each of the others")
    }
}
