//! The views of a scan.

use serde::Serialize;
use tenant_auth_client::proto::{LeakAction, ReportLeakResponse};

use super::to_moment;
use crate::{
    output::printable,
    scan::{Finding, FoundKey},
    time::Moment,
};

/// Bytes of a SHA-256 that are shown: enough to tell keys apart, too few for a lookup.
const SHOWN_HASH_BYTES: usize = 6;

/// A place with a key.
#[derive(Debug, Serialize)]
pub(crate) struct FindingView {
    path: String,
    /// `None` if the key is in the name.
    line: Option<u64>,
    prefix: String,
    sha256_prefix: String,
}

impl FindingView {
    pub(crate) fn new(finding: Finding<'_>) -> Self {
        Self {
            path: finding.path.to_owned(),
            line: finding.line,
            prefix: finding.key.hint.clone(),
            sha256_prefix: shown_hash(finding.key),
        }
    }

    /// Returns the place, as `path:line`.
    pub(crate) fn place(&self) -> String {
        let path = printable(&self.path);
        self.line.map_or_else(|| path.clone(), |line| format!("{path}:{line}"))
    }

    /// Returns the line of the finding.
    pub(crate) fn text(&self) -> String {
        format!("{}: {}\n", self.place(), key_text(&self.prefix, &self.sha256_prefix))
    }
}

/// What the service did about a reported key.
#[derive(Debug, Serialize)]
pub(crate) struct LeakView {
    prefix: String,
    sha256_prefix: String,
    known: bool,
    already_reported: bool,
    /// `None` if the service does not know the key.
    action: Option<&'static str>,
    key_id: Option<String>,
    tenant_id: Option<String>,
    expires_at: Option<Moment>,
}

impl LeakView {
    pub(crate) fn new(key: &FoundKey, response: ReportLeakResponse) -> Self {
        let is_revoked = response.key.as_ref().is_some_and(|key| key.revoked_at.is_some());
        let action = match response.action() {
            _ if !response.known => None,
            _ if is_revoked => Some("revoked before"),
            LeakAction::Disable => Some("disabled"),
            LeakAction::Notify => Some("notified"),
            LeakAction::Expire => Some("expires"),
            LeakAction::Unspecified => Some("unknown"),
        };
        let (key_id, tenant_id, expires_at) = match response.key {
            Some(key) => (Some(key.key_id), Some(key.tenant_id), to_moment(key.expires_at)),
            None => (None, None, None),
        };
        Self {
            prefix: key.hint.clone(),
            sha256_prefix: shown_hash(key),
            known: response.known,
            already_reported: response.already_reported,
            action,
            key_id,
            tenant_id,
            expires_at,
        }
    }

    /// Returns the line of the report.
    pub(crate) fn text(&self) -> String {
        let key = key_text(&self.prefix, &self.sha256_prefix);
        let Some(action) = self.action else { return format!("{key}: unknown to the service\n") };
        let action = match (action, self.expires_at) {
            ("expires", Some(moment)) => format!("expires at {moment}"),
            ("notified", _) => "notified, and still valid".to_owned(),
            ("unknown", _) => "reported".to_owned(),
            (action, _) => action.to_owned(),
        };
        let before = if self.already_reported { "already reported: " } else { "" };
        let id = |id: &Option<String>| id.as_deref().map(printable).unwrap_or_default();
        format!("{key}: {before}{action} ({} of tenant {})\n", id(&self.key_id), id(&self.tenant_id))
    }
}

/// The end of the document, after the findings.
#[derive(Debug, Serialize)]
pub(crate) struct ScanView {
    pub(crate) found: u64,
    /// Files, entries of archives, and objects of repositories.
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// What could not be read, or not completely; standard error names it.
    pub(crate) unread: u64,
    /// `None` without `--report`.
    pub(crate) reports: Option<Vec<LeakView>>,
}

fn key_text(prefix: &str, sha256_prefix: &str) -> String {
    format!("{prefix}…  sha256 {sha256_prefix}…")
}

fn shown_hash(key: &FoundKey) -> String {
    hex::encode(&key.sha256[..SHOWN_HASH_BYTES])
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;
    use tenant_auth_client::proto::ApiKey;

    use super::*;

    fn key() -> FoundKey {
        FoundKey { hint: "ta_AbCd".to_owned(), sha256: [0xab; 32] }
    }

    #[test]
    fn finding_is_one_line() {
        let finding = |path, line| FindingView::new(Finding { path, line, key: &key() });
        assert_eq!(finding("a/b", Some(7)).text(), "a/b:7: ta_AbCd…  sha256 abababababab…\n");
        assert_eq!(finding("ta_AbCd….txt", None).text(), "ta_AbCd….txt: ta_AbCd…  sha256 abababababab…\n");
        assert_eq!(finding("a\n\u{1b}b", Some(1)).place(), "a\u{fffd}\u{fffd}b:1");
    }

    #[test]
    fn report_says_what_the_service_did() {
        let response = |action: LeakAction, already_reported| ReportLeakResponse {
            known: true,
            already_reported,
            action: action.into(),
            key: Some(ApiKey {
                key_id: "key_1".to_owned(),
                tenant_id: "acme".to_owned(),
                expires_at: Some(Timestamp { seconds: 60, nanos: 0 }),
                ..Default::default()
            }),
            revision: 7,
        };
        let effect = |response| {
            let text = LeakView::new(&key(), response).text();
            text.strip_prefix("ta_AbCd…  sha256 abababababab…: ").unwrap().to_owned()
        };
        assert_eq!(effect(ReportLeakResponse::default()), "unknown to the service\n");
        for (action, already, expected) in [
            (LeakAction::Disable, false, "disabled (key_1 of tenant acme)\n"),
            (LeakAction::Notify, false, "notified, and still valid (key_1 of tenant acme)\n"),
            (LeakAction::Expire, false, "expires at 1970-01-01T00:01:00Z (key_1 of tenant acme)\n"),
            (LeakAction::Disable, true, "already reported: disabled (key_1 of tenant acme)\n"),
            (LeakAction::Unspecified, false, "reported (key_1 of tenant acme)\n"),
        ] {
            assert_eq!(effect(response(action, already)), expected);
        }
    }
}
