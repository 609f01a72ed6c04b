//! The sentence that explains a verdict.

use serde::Deserialize;
use tenant_auth_client::proto::{self, ApiKey, AuditEvent, ExplainKeyResponse, Verdict};

use super::{super::to_moment, ExplainedRequest};
use crate::time::{Moment, format_coarse};

/// The part of an audit log entry's detail that the sentence needs.
#[derive(Debug, Default, Deserialize)]
struct UpdateDetail {
    #[serde(default)]
    after: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    reason: String,
}

fn update_detail(event: &AuditEvent) -> UpdateDetail {
    serde_json::from_str(&event.detail).unwrap_or_default()
}

/// Explains the verdict, and what this replica knows about its cause.
pub(super) fn explain(explained: &ExplainKeyResponse, request: &ExplainedRequest) -> String {
    let now =
        explained.replica.as_ref().and_then(|replica| to_moment(replica.now)).unwrap_or_else(Moment::now);
    let facts = Facts { explained, now };
    let (mut sentence, cause) = facts.verdict(request);
    if explained.denied_by_list {
        sentence =
            "denied by the deny list of the answering replica, whatever the database contains".to_owned();
    }
    if let Some(known) = facts.known_since(cause) {
        sentence += &format!("; {known}");
    }
    if let Some(memory) = facts.differing_memory() {
        sentence += &format!("; {memory}");
    }
    sentence
}

struct Facts<'a> {
    explained: &'a ExplainKeyResponse,
    now: Moment,
}

impl Facts<'_> {
    fn key(&self) -> Option<&ApiKey> {
        self.explained.database.as_ref()?.key.as_ref()
    }

    /// Returns the sentence, and when its cause happened.
    fn verdict(&self, request: &ExplainedRequest) -> (String, Option<Moment>) {
        let key_event = |wanted: &dyn Fn(&AuditEvent) -> bool| {
            self.explained.key_events.iter().find(|event| wanted(event))
        };
        match self.explained.verdict() {
            Verdict::Valid => ("valid".to_owned() + &self.expiry(), None),
            Verdict::Revoked => {
                let at =
                    self.key().and_then(|key| to_moment(key.revoked_at)).or_else(|| self.cached_revocation());
                let event = key_event(&|event| event.action == "key.revoke");
                let reason = self.key().map(|key| key.revoke_reason.clone()).unwrap_or_default();
                (self.caused("revoked", at, event, &reason), at)
            }
            Verdict::Disabled => {
                let is_cause = |event: &AuditEvent| match &*event.action {
                    "key.leak" => true,
                    "key.update" => {
                        update_detail(event).after.get("enabled") == Some(&serde_json::Value::Bool(false))
                    }
                    _ => false,
                };
                let event = key_event(&is_cause);
                let at = self.key().and_then(|key| to_moment(key.disabled_at));
                let reason = event.map(|event| update_detail(event).reason).unwrap_or_default();
                (self.caused("disabled", at, event, &reason), at)
            }
            Verdict::Expired => {
                let at = self.key().and_then(|key| to_moment(key.expires_at));
                (self.caused("expired", at, None, ""), None)
            }
            Verdict::TenantSuspended => {
                let suspend = |event: &&AuditEvent| event.action == "tenant.suspend";
                let event = self.explained.tenant_events.iter().find(suspend);
                let at = event.and_then(|event| to_moment(event.at));
                let reason = event.map(|event| event.detail.clone()).unwrap_or_default();
                (self.caused("its tenant was suspended", at, event, &reason), None)
            }
            Verdict::AddressRequired => {
                let networks = self.networks();
                (format!("may be used only from {networks}, and the request has no client address"), None)
            }
            Verdict::AddressNotAllowed => {
                let address = request.client_address.as_deref().unwrap_or("elsewhere");
                (format!("may be used only from {}, not from {address}", self.networks()), None)
            }
            Verdict::InsufficientScope => {
                (format!("lacks the scopes {}", self.explained.missing_scopes.join(" ")), None)
            }
            Verdict::Unknown => ("the database does not contain it".to_owned(), None),
            Verdict::Malformed => {
                ("its text cannot be a key: it was cut off, changed or is something else".to_owned(), None)
            }
            Verdict::Unspecified => (
                "cannot be decided now: the database does not respond, and nothing is in memory".to_owned(),
                None,
            ),
            verdict => (format!("unknown verdict {}: update tenantctl", verdict.as_str_name()), None),
        }
    }

    fn expiry(&self) -> String {
        let expires_at = self.key().and_then(|key| to_moment(key.expires_at));
        expires_at.map_or_else(String::new, |at| format!(", expires at {}", at.with_relative_time(self.now)))
    }

    fn cached(&self) -> Option<&proto::CachedKey> {
        self.explained.replica.as_ref()?.cached.as_ref()
    }

    fn cached_revocation(&self) -> Option<Moment> {
        self.cached().and_then(|cached| to_moment(cached.revoked_at))
    }

    fn networks(&self) -> String {
        let stored = self.key().map(|key| key.allowed_networks.join(" "));
        let cached = || self.cached().map(|cached| cached.allowed_networks.join(" "));
        stored.or_else(cached).unwrap_or_default()
    }

    /// Returns, for example, "revoked 3h ago by ci: leaked".
    fn caused(&self, what: &str, at: Option<Moment>, event: Option<&AuditEvent>, reason: &str) -> String {
        let ago = at.and_then(|at| self.now.since(at)).map(|time| format!(" {} ago", format_coarse(time)));
        let by = event.map(|event| format!(" by {}", event.caller));
        let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        format!("{what}{}{}{reason}", ago.unwrap_or_default(), by.unwrap_or_default())
    }

    /// Returns since when the replica has known the cause.
    fn known_since(&self, cause: Option<Moment>) -> Option<String> {
        let applied = to_moment(self.explained.replica.as_ref()?.last_change.as_ref()?.applied_at)?;
        // The clocks of the replica and of the caller that made the change may differ a little.
        let delay = applied.since(cause?).unwrap_or_default();
        Some(format!("this replica has known it since {} after", format_coarse(delay)))
    }

    /// Returns what the replica still answers, if that is not what the database says.
    fn differing_memory(&self) -> Option<String> {
        let (cached, database) = (self.cached()?, self.explained.database.as_ref()?);
        if cached.verdict() == database.verdict() || cached.source() == proto::Source::Database {
            return None;
        }
        let age = cached.age.and_then(|age| age.try_into().ok()).unwrap_or_default();
        Some(format!(
            "the database says {}, and this replica answers from its memory, {} old",
            database.verdict().as_str_name().trim_start_matches("VERDICT_"),
            format_coarse(age)
        ))
    }
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;
    use tenant_auth_client::proto::{AppliedChange, CachedKey, GetKeyResponse, InspectKeyResponse, Source};

    use super::*;

    fn at(seconds: i64, millis: i32) -> Option<Timestamp> {
        Some(Timestamp { seconds, nanos: millis * 1_000_000 })
    }

    fn explained(verdict: Verdict, key: ApiKey) -> ExplainKeyResponse {
        let database =
            GetKeyResponse { key: Some(key), verdict: verdict.into(), ..GetKeyResponse::default() };
        let replica = InspectKeyResponse { now: at(20_000, 0), ..InspectKeyResponse::default() };
        ExplainKeyResponse {
            verdict: verdict.into(),
            database: Some(database),
            replica: Some(replica),
            ..ExplainKeyResponse::default()
        }
    }

    fn event(action: &str, detail: &str) -> AuditEvent {
        AuditEvent {
            at: at(9_200, 0),
            action: action.to_owned(),
            caller: "ci@10.0.0.1".to_owned(),
            detail: detail.to_owned(),
            ..AuditEvent::default()
        }
    }

    fn sentence(explained: &ExplainKeyResponse) -> String {
        explain(explained, &ExplainedRequest::default())
    }

    #[test]
    fn revocation_names_who_why_and_since_when_it_is_known() {
        let key =
            ApiKey { revoked_at: at(9_200, 0), revoke_reason: "leaked".to_owned(), ..ApiKey::default() };
        let mut revoked = explained(Verdict::Revoked, key);
        revoked.key_events = vec![event("key.revoke", "leaked")];
        let change = AppliedChange { applied_at: at(9_200, 180), ..AppliedChange::default() };
        revoked.replica.as_mut().unwrap().last_change = Some(change);
        assert_eq!(
            sentence(&revoked),
            "revoked 3h ago by ci@10.0.0.1: leaked; this replica has known it since 180ms after"
        );
    }

    #[test]
    fn older_memory_is_named() {
        let key = ApiKey { disabled_at: at(19_998, 0), ..ApiKey::default() };
        let mut disabled = explained(Verdict::Disabled, key);
        disabled.verdict = Verdict::Valid.into();
        let cached = CachedKey {
            verdict: Verdict::Valid.into(),
            source: Source::Fresh.into(),
            age: Some(prost_types::Duration { seconds: 2, nanos: 0 }),
            ..CachedKey::default()
        };
        disabled.replica.as_mut().unwrap().cached = Some(cached);
        assert_eq!(
            sentence(&disabled),
            "valid; the database says DISABLED, and this replica answers from its memory, 2s old"
        );
    }

    #[test]
    fn every_denial_has_its_sentence() {
        let mut disabled =
            explained(Verdict::Disabled, ApiKey { disabled_at: at(19_940, 0), ..ApiKey::default() });
        disabled.key_events = vec![
            event("key.update", r#"{"after":{"name":"x"}}"#),
            event("key.update", r#"{"after":{"enabled":false},"reason":"unpaid"}"#),
        ];
        assert_eq!(sentence(&disabled), "disabled 1m ago by ci@10.0.0.1: unpaid");
        let expired = explained(Verdict::Expired, ApiKey { expires_at: at(16_400, 0), ..ApiKey::default() });
        assert_eq!(sentence(&expired), "expired 1h ago");
        let mut suspended = explained(Verdict::TenantSuspended, ApiKey::default());
        suspended.tenant_events = vec![event("tenant.suspend", "unpaid")];
        assert_eq!(sentence(&suspended), "its tenant was suspended 3h ago by ci@10.0.0.1: unpaid");
        let limited = ApiKey { allowed_networks: vec!["10.0.0.0/8".to_owned()], ..ApiKey::default() };
        let outside = explained(Verdict::AddressNotAllowed, limited);
        let request = ExplainedRequest { client_address: Some("192.0.2.1".to_owned()) };
        assert_eq!(explain(&outside, &request), "may be used only from 10.0.0.0/8, not from 192.0.2.1");
        let mut lacking = explained(Verdict::InsufficientScope, ApiKey::default());
        lacking.missing_scopes = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(sentence(&lacking), "lacks the scopes a b");
        let mut listed = explained(Verdict::Revoked, ApiKey::default());
        listed.denied_by_list = true;
        assert!(sentence(&listed).starts_with("denied by the deny list"));
    }
}
