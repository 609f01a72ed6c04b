//! The view of a validation.

use serde::Serialize;
use tenant_auth_client::{Source, Validation};

use super::{non_empty, to_text};
use crate::{
    output::{self, View},
    time::{Moment, format_coarse},
};

#[derive(Debug, Serialize)]
pub(crate) struct ValidationView {
    valid: bool,
    verdict: String,
    tenant_id: Option<String>,
    tenant_name: Option<String>,
    plan: Option<String>,
    key_id: Option<String>,
    scopes: Vec<String>,
    missing_scopes: Vec<String>,
    expires_at: Option<Moment>,
    provenance: ProvenanceView,
}

#[derive(Debug, Serialize)]
struct ProvenanceView {
    source: &'static str,
    age_ms: u128,
    revision: i64,
    cacheable_for_ms: u128,
    #[serde(skip)]
    text: String,
}

impl ValidationView {
    pub(crate) fn new(validation: Validation) -> Self {
        let (provenance, subject) = (validation.provenance, &validation.subject);
        let source = match provenance.source {
            Source::NoLookup => "no lookup",
            Source::Database => "database",
            Source::Fresh => "fresh",
            Source::Refreshing => "refreshing",
            Source::Stale => "stale",
            Source::Negative => "negative",
            Source::Near => "near",
            _ => "unknown",
        };
        let text = match provenance.source {
            Source::NoLookup => "decided without a lookup".to_owned(),
            _ => format!(
                "{source}, {} old, revision {}, reusable for {}",
                format_coarse(provenance.age),
                provenance.revision,
                format_coarse(provenance.cacheable_for)
            ),
        };
        Self {
            valid: validation.is_valid(),
            verdict: validation.verdict.to_string(),
            tenant_id: non_empty(subject.tenant_id().to_owned()),
            tenant_name: non_empty(subject.tenant_name().to_owned()),
            plan: non_empty(subject.plan().to_owned()),
            key_id: non_empty(subject.key_id().to_owned()),
            scopes: subject.scopes().to_vec(),
            missing_scopes: validation.missing_scopes,
            expires_at: subject.expires_at().map(Moment::from),
            provenance: ProvenanceView {
                source,
                age_ms: provenance.age.as_millis(),
                revision: provenance.revision,
                cacheable_for_ms: provenance.cacheable_for.as_millis(),
                text,
            },
        }
    }
}

impl ValidationView {
    pub(super) fn rows(&self) -> [(&'static str, String); 9] {
        let never = || if self.key_id.is_some() { "never".to_owned() } else { String::new() };
        let expires_at = self.expires_at.map(|expires_at| expires_at.with_relative_time(Moment::now()));
        [
            ("verdict", self.verdict.clone()),
            ("tenant", to_text(self.tenant_id.as_ref())),
            ("name", to_text(self.tenant_name.as_ref())),
            ("plan", to_text(self.plan.as_ref())),
            ("key", to_text(self.key_id.as_ref())),
            ("scopes", self.scopes.join(" ")),
            ("missing", self.missing_scopes.join(" ")),
            ("expires", expires_at.unwrap_or_else(never)),
            ("answer", self.provenance.text.clone()),
        ]
    }
}

impl View for ValidationView {
    fn text(&self) -> String {
        output::details(&self.rows())
    }
}
