//! The verdict on a key, in sentences.

use std::time::Duration;

use maud::{Markup, html};
use prost_types::Timestamp;
use tenant_auth_proto::v1::{self, Verdict};

use super::question::Question;
use crate::console::html::{duration, text, timestamp};

/// Explains the verdict of this replica: what it is, who caused it, and what the replica knows.
pub(super) fn sentences(explained: &v1::ExplainKeyResponse, question: &Question) -> Vec<Markup> {
    let facts = Facts { explained, question };
    let mut sentences = vec![if explained.denied_by_list {
        html! { strong { "Refused: " } "the deny list of this replica refuses the key, whatever the database contains." }
    } else {
        facts.verdict()
    }];
    sentences.extend(facts.source());
    sentences.extend(facts.difference());
    sentences
}

struct Facts<'a> {
    explained: &'a v1::ExplainKeyResponse,
    question: &'a Question,
}

impl Facts<'_> {
    fn key(&self) -> Option<&v1::ApiKey> {
        self.explained.database.as_ref()?.key.as_ref()
    }

    fn cached(&self) -> Option<&v1::CachedKey> {
        self.explained.replica.as_ref()?.cached.as_ref()
    }

    fn verdict(&self) -> Markup {
        let refused = |why: Markup| html! { strong { "Refused: " } (why) };
        match self.explained.verdict() {
            Verdict::Valid => html! { strong { "Admitted: " } "the key is valid" (self.expiry()) "." },
            Verdict::Revoked => {
                let cached = || self.cached()?.revoked_at;
                let at = self.key().and_then(|key| key.revoked_at).or_else(cached);
                let event = self.key_event(|event| event.action == "key.revoke");
                let reason = self.key().map(|key| key.revoke_reason.as_str()).unwrap_or_default();
                refused(html! { "the key was revoked" (cause(at, event, reason)) "." })
            }
            Verdict::Disabled => {
                let at = self.key().and_then(|key| key.disabled_at);
                let event = self.key_event(|event| {
                    event.action == "key.leak"
                        || (event.action == "key.update" && detail(event)["after"]["enabled"] == false)
                });
                let detail = event.map(detail).unwrap_or_default();
                refused(html! { "the key is paused" (cause(at, event, text_of(&detail, "reason"))) "." })
            }
            Verdict::Expired => {
                let cached = || self.cached()?.expires_at;
                let at = self.key().and_then(|key| key.expires_at).or_else(cached);
                refused(html! { "the key has expired" (cause(at, None, "")) "." })
            }
            Verdict::TenantSuspended => {
                let suspended = |event: &&v1::AuditEvent| event.action == "tenant.suspend";
                let event = self.explained.tenant_events.iter().find(suspended);
                let at = event.and_then(|event| event.at);
                let reason = event.map(|event| event.detail.as_str()).unwrap_or_default();
                refused(html! { "its tenant was suspended" (cause(at, event, reason)) "." })
            }
            Verdict::AddressRequired => refused(html! {
                "the key may be used only from " (self.networks()) ", and nothing is said about the address of the client."
            }),
            Verdict::AddressNotAllowed => refused(html! {
                "the key may be used only from " (self.networks()) ", not from " (text(self.question.address.trim())) "."
            }),
            Verdict::InsufficientScope => refused(html! {
                "the key lacks the scopes " (text(&self.explained.missing_scopes.join(" "))) "."
            }),
            Verdict::Unknown => refused(html! { "the database does not contain the key." }),
            Verdict::Malformed => refused(html! { "the text cannot be a key: it was cut off, or changed." }),
            Verdict::Unspecified => html! {
                strong { "Undecided: " }
                "the database does not answer, and this replica has no copy of the key. Callers get UNAVAILABLE."
            },
            verdict => refused(html! { "the verdict is " code { (name(verdict)) } "." }),
        }
    }

    fn key_event(&self, is_cause: impl Fn(&v1::AuditEvent) -> bool) -> Option<&v1::AuditEvent> {
        self.explained.key_events.iter().find(|event| is_cause(event))
    }

    fn expiry(&self) -> Markup {
        match self.key().and_then(|key| key.expires_at) {
            Some(at) => html! { " until " (timestamp(Some(&at), "")) },
            None => html! {},
        }
    }

    fn networks(&self) -> Markup {
        let stored = self.key().map(|key| key.allowed_networks.join(" "));
        let cached = || self.cached().map(|cached| cached.allowed_networks.join(" "));
        text(&stored.or_else(cached).unwrap_or_default())
    }

    /// What the verdict is based on.
    fn source(&self) -> Option<Markup> {
        let replica = self.explained.replica.as_ref()?;
        let known = replica.last_change.as_ref().and_then(|change| change.applied_at);
        let lookups = match replica.lookups() {
            v1::LookupState::FeedSilent => " It has not read the change log for more than a second.",
            v1::LookupState::BreakerOpen => " The database does not answer it.",
            v1::LookupState::Healthy | v1::LookupState::Unspecified => "",
        };
        Some(html! {
            @match &replica.cached {
                Some(cached) if cached.source() != v1::Source::Database => {
                    "This replica answers from its copy, which is " (age(cached)) " old."
                },
                Some(_) => "This replica has a copy, and reads the database before it answers.",
                None => "This replica has no copy, and reads the database before it answers.",
            }
            (lookups)
            @if let Some(at) = &known { " It has applied the last change of the key at " (timestamp(Some(at), "")) "." }
        })
    }

    /// What other replicas may answer, if it is something else.
    fn difference(&self) -> Option<Markup> {
        let (cached, database) = (self.cached()?, self.explained.database.as_ref()?);
        if cached.verdict() == database.verdict() || cached.source() == v1::Source::Database {
            return None;
        }
        Some(html! {
            "According to the database the verdict is " code { (name(database.verdict())) }
            ": replicas with a newer copy answer that."
        })
    }
}

/// When something was done, by whom, and why.
fn cause(at: Option<Timestamp>, event: Option<&v1::AuditEvent>, reason: &str) -> Markup {
    html! {
        @if let Some(at) = &at { " at " (timestamp(Some(at), "")) }
        @if let Some(event) = event { " by " (text(&event.caller)) }
        @if !reason.is_empty() { ": " (text(reason)) }
    }
}

fn detail(event: &v1::AuditEvent) -> serde_json::Value {
    serde_json::from_str(&event.detail).unwrap_or_default()
}

fn text_of<'a>(detail: &'a serde_json::Value, field: &str) -> &'a str {
    detail.get(field).and_then(serde_json::Value::as_str).unwrap_or_default()
}

fn name(verdict: Verdict) -> &'static str {
    verdict.as_str_name().trim_start_matches("VERDICT_")
}

fn age(cached: &v1::CachedKey) -> String {
    duration(cached.age.and_then(|age| age.try_into().ok()).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(explained: &v1::ExplainKeyResponse, question: &Question) -> Vec<String> {
        let plain = |sentence: Markup| {
            let mut text = String::new();
            for piece in sentence.into_string().split('<') {
                text += piece.split_once('>').map_or(piece, |(_, text)| text);
            }
            text
        };
        sentences(explained, question).into_iter().map(plain).collect()
    }

    fn explained(verdict: Verdict, key: v1::ApiKey) -> v1::ExplainKeyResponse {
        let database = v1::GetKeyResponse { key: Some(key), verdict: verdict.into(), ..Default::default() };
        v1::ExplainKeyResponse { verdict: verdict.into(), database: Some(database), ..Default::default() }
    }

    #[test]
    fn cause_names_who_and_why() {
        let at = Some(Timestamp { seconds: 60, nanos: 0 });
        let key = v1::ApiKey { revoked_at: at, revoke_reason: "leaked <b>".to_owned(), ..Default::default() };
        let event = v1::AuditEvent {
            action: "key.revoke".to_owned(),
            caller: "ann".to_owned(),
            ..Default::default()
        };
        let revoked = v1::ExplainKeyResponse { key_events: vec![event], ..explained(Verdict::Revoked, key) };
        assert_eq!(
            said(&revoked, &Question::default()),
            ["Refused: the key was revoked at 1970-01-01 00:01:00 UTC by ann: leaked &lt;b&gt;."]
        );
        let event = v1::AuditEvent {
            action: "key.update".to_owned(),
            caller: "bob".to_owned(),
            detail: r#"{"after":{"enabled":false},"reason":"unpaid"}"#.to_owned(),
            ..Default::default()
        };
        let paused = v1::ExplainKeyResponse {
            key_events: vec![event],
            ..explained(Verdict::Disabled, v1::ApiKey::default())
        };
        assert_eq!(said(&paused, &Question::default()), ["Refused: the key is paused by bob: unpaid."]);
    }

    #[test]
    fn asked_address_and_scopes_are_in_the_sentence() {
        let key = v1::ApiKey { allowed_networks: vec!["10.0.0.0/8".to_owned()], ..Default::default() };
        let question = Question { address: " 192.0.2.1 ".to_owned(), scopes: String::new() };
        assert_eq!(
            said(&explained(Verdict::AddressNotAllowed, key), &question),
            ["Refused: the key may be used only from 10.0.0.0/8, not from 192.0.2.1."]
        );
        let lacking = v1::ExplainKeyResponse {
            missing_scopes: vec!["a:write".to_owned()],
            ..explained(Verdict::InsufficientScope, v1::ApiKey::default())
        };
        assert_eq!(said(&lacking, &question), ["Refused: the key lacks the scopes a:write."]);
    }

    #[test]
    fn copy_that_differs_from_the_database_is_told() {
        let cached = v1::CachedKey {
            verdict: Verdict::Valid.into(),
            source: v1::Source::Stale.into(),
            age: Some(prost_types::Duration { seconds: 90, nanos: 0 }),
            ..Default::default()
        };
        let replica = v1::InspectKeyResponse {
            cached: Some(cached),
            lookups: v1::LookupState::BreakerOpen.into(),
            ..Default::default()
        };
        let mut stale = explained(Verdict::Revoked, v1::ApiKey::default());
        stale.verdict = Verdict::Valid.into();
        stale.replica = Some(replica);
        assert_eq!(
            said(&stale, &Question::default()),
            [
                "Admitted: the key is valid.",
                "This replica answers from its copy, which is 1 min 30 s old. The database does not answer it.",
                "According to the database the verdict is REVOKED: replicas with a newer copy answer that.",
            ]
        );
    }
}
