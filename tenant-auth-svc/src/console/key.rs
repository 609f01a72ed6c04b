//! One key: what it may do, why it is refused, and what was changed.

pub(super) mod changes;
mod explained;
mod forms;
mod question;
mod successors;

use std::sync::Arc;

use axum::{
    extract::{Path, Query, State},
    response::Response,
};
use http::StatusCode;
use maud::{Markup, html};
use serde::Deserialize;
use tenant_auth_proto::v1::{self, get_limit_state_request::Subject};

use self::question::Question;
use super::{
    Console, applied, entries,
    failure::Failure,
    html::{Place, id, text, timestamp},
    keys::Standing,
    parts::{self, Answer, Part, answer, failed, found},
    paths,
    person::Person,
    rpc::call,
    tenant::limits,
    tenants,
};

/// What of a key is shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct View {
    /// The change that was made just now.
    revision: Option<i64>,
    address: String,
    scopes: String,
}

/// What is read about a key, at the same time.
struct Parts {
    explained: Answer<v1::ExplainKeyResponse>,
    asked: Option<Answer<v1::ExplainKeyResponse>>,
    limits: Answer<v1::GetLimitStateResponse>,
    events: Answer<v1::ListAuditEventsResponse>,
}

pub(super) async fn show(
    State(console): State<Arc<Console>>,
    person: Person,
    Path(key_id): Path<String>,
    Query(view): Query<View>,
) -> Response {
    let question = Question { address: view.address, scopes: view.scopes };
    let Parts { explained, asked, limits, events } = read(&person, &key_id, &question).await;
    let explained = match explained {
        Ok(explained) => explained,
        Err(failure) if failure.status() == StatusCode::SERVICE_UNAVAILABLE => {
            return failed(&person, Place::Tenants, &key_id, &failure, &html! {});
        }
        Err(failure) => return failure.page(&person),
    };
    let stored = explained.database.as_ref().and_then(|database| database.key.as_ref());
    let missing = missing(&explained);
    let now = console.parts.clock.now();
    let parts = vec![
        Part::new("why", "Why was this denied?", Ok(asked), |asked| {
            question::show(&key_id, &question, asked.as_ref())
        }),
        Part::new("limits", "Limits", limits, |state| limits::show(&state)),
        Part::new("audit", "Audit log", events, |listed| entries::table(&listed.events, ("target", &key_id))),
    ];
    let parts = parts::show_all(parts, missing.is_some());
    let applied = match view.revision {
        Some(revision) => applied::part(&console, &person, revision).await,
        None => html! {},
    };
    let (title, body) = match stored {
        Some(key) => {
            let successors = successors::read(&person, key).await;
            let tenant = explained.database.as_ref().and_then(|database| database.tenant.as_ref());
            let title = html! { (tenants::name(&key.name)) " " (Standing::of(key, now).tag()) };
            (title, html! { (facts(key, tenant)) (successors::show(key, &successors)) })
        }
        None => (id(&key_id), cached_facts(&key_id, explained.replica.as_ref())),
    };
    let content = html! {
        h1 { (title) }
        @if let Some(failure) = &missing { (failure.note()) }
        (applied)
        div.note #verdict { @for sentence in explained::sentences(&explained, &Question::default()) { p { (sentence) } } }
        (body)
        @if let Some(key) = stored && person.may_change { (forms::all(&person, key, now)) }
        (parts)
    };
    let status = missing.map_or(StatusCode::OK, |failure| failure.status());
    found(&person, status, &key_id, &content)
}

async fn read(person: &Person, key_id: &str, question: &Question) -> Parts {
    let explain = |question: &Question| question.request(key_id);
    let (mut plain, mut asked, mut events) = (person.rpc.admin(), person.rpc.admin(), person.rpc.admin());
    let mut limits = person.rpc.limits();
    let asking = async {
        if question.is_empty() {
            return None;
        }
        Some(answer(asked.explain_key(call(explain(question))).await))
    };
    let limits_request = v1::GetLimitStateRequest { subject: Some(Subject::KeyId(key_id.to_owned())) };
    let events_request = v1::ListAuditEventsRequest {
        target: key_id.to_owned(),
        page_size: entries::SHOWN,
        ..Default::default()
    };
    let (explained, asked, limits, events) = tokio::join!(
        plain.explain_key(call(explain(&Question::default()))),
        asking,
        limits.get_limit_state(call(limits_request)),
        events.list_audit_events(call(events_request)),
    );
    Parts { explained: answer(explained), asked, limits: answer(limits), events: answer(events) }
}

/// Why the key itself cannot be shown, only what this replica has of it.
fn missing(explained: &v1::ExplainKeyResponse) -> Option<Failure> {
    if let Some(error) = &explained.database_error {
        return Some(parts::failure(error));
    }
    let is_stored = explained.database.as_ref().is_some_and(|database| database.key.is_some());
    let message = "The database contains no such key. It may have been deleted with its tenant.";
    (!is_stored).then(|| Failure::new(StatusCode::NOT_FOUND, message))
}

fn facts(key: &v1::ApiKey, tenant: Option<&v1::Tenant>) -> Markup {
    html! {
        dl.facts {
            dt { "Key" } dd { (id(&key.key_id)) }
            dt { "Begins with" } dd.mono { (text(&key.prefix_hint)) }
            dt { "Tenant" }
            dd {
                a href=(paths::tenant(&key.tenant_id)) {
                    @match tenant { Some(tenant) => (tenants::name(&tenant.name)), None => (id(&key.tenant_id)) }
                }
                @if let Some(tenant) = tenant { " " (tenants::status(tenant)) }
            }
            dt { "Scopes" } dd.mono { (list(&key.scopes, "none")) }
            dt { "Networks" } dd.mono { (list(&key.allowed_networks, "may be used from everywhere")) }
            dt { "Created" } dd { (timestamp(key.created_at.as_ref(), "")) }
            dt { "Expires" } dd { (timestamp(key.expires_at.as_ref(), "never")) }
            dt { "Last used" } dd { (timestamp(key.last_used_at.as_ref(), "not yet, or less than a few seconds ago")) }
            @if let Some(at) = &key.disabled_at { dt { "Paused" } dd { (timestamp(Some(at), "")) } }
            @if let Some(at) = &key.revoked_at {
                dt { "Revoked" } dd { (timestamp(Some(at), "")) ": " (text(&key.revoke_reason)) }
            }
        }
    }
}

/// What this replica remembers of a key that cannot be read.
fn cached_facts(key_id: &str, replica: Option<&v1::InspectKeyResponse>) -> Markup {
    let cached = replica.and_then(|replica| replica.cached.as_ref());
    html! {
        @match cached {
            Some(cached) => {
                p { "This replica remembers:" }
                dl.facts {
                    dt { "Key" } dd { (id(key_id)) }
                    dt { "Tenant" }
                    dd {
                        a href=(paths::tenant(&cached.tenant_id)) { (id(&cached.tenant_id)) }
                        @if cached.tenant_suspended { " " span.tag.bad { "suspended" } }
                    }
                    dt { "Scopes" } dd.mono { (list(&cached.scopes, "none")) }
                    dt { "Networks" } dd.mono { (list(&cached.allowed_networks, "may be used from everywhere")) }
                    dt { "Expires" } dd { (timestamp(cached.expires_at.as_ref(), "never")) }
                    @if cached.disabled { dt { "Paused" } dd { "yes" } }
                    @if let Some(at) = &cached.revoked_at { dt { "Revoked" } dd { (timestamp(Some(at), "")) } }
                }
            },
            None => p.empty { "This replica remembers nothing of the key." },
        }
    }
}

fn list(words: &[String], absent: &str) -> Markup {
    html! { @if words.is_empty() { span.none { (absent) } } @else { (text(&words.join(" "))) } }
}
