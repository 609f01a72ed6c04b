//! One tenant: its keys, sessions, limits and usage, and what was changed.

pub(super) mod changes;
mod forms;
pub(super) mod limits;
mod sessions;
mod usage;

use std::sync::Arc;

use axum::{
    extract::{Path, Query, State},
    response::Response,
};
use http::StatusCode;
use maud::{Markup, html};
use serde::Deserialize;
use tenant_auth_proto::v1::{self, get_limit_state_request::Subject};

use self::usage::Resolution;
use super::{
    Console, applied, entries,
    html::{Place, id, text, timestamp},
    keys,
    parts::{self, Answer, Part, answer, failed, found},
    paths,
    person::Person,
    rpc::call,
    tenants::{self, PAGE_SIZE, empty_page, next},
};
use crate::domain::clock::UnixMillis;

/// What of a tenant is shown.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct View {
    /// Where the page of keys begins.
    keys_after: String,
    /// `all` also shows keys that are revoked or expired.
    keys: String,
    sessions_after: String,
    usage: Resolution,
    /// The change that was made just now.
    revision: Option<i64>,
}

impl View {
    fn with_inactive_keys(&self) -> bool {
        self.keys == "all"
    }
}

/// What is read about a tenant, at the same time.
struct Parts {
    tenant: Answer<v1::GetTenantResponse>,
    keys: Answer<v1::ListKeysResponse>,
    sessions: Answer<v1::ListSessionsResponse>,
    limits: Answer<v1::GetLimitStateResponse>,
    usage: Answer<v1::QueryUsageResponse>,
    events: Answer<v1::ListAuditEventsResponse>,
}

pub(super) async fn show(
    State(console): State<Arc<Console>>,
    person: Person,
    Path(tenant_id): Path<String>,
    Query(view): Query<View>,
) -> Response {
    let now = console.parts.clock.now();
    let Parts { tenant, keys, sessions, limits, usage, events } = read(&person, &tenant_id, &view, now).await;
    let tenant = tenant.map(|tenant| tenant.tenant.unwrap_or_default());
    if let Err(failure) = &tenant
        && failure.status() != StatusCode::SERVICE_UNAVAILABLE
    {
        return failure.page(&person);
    }
    let limits_of_usage = limits.as_ref().ok().cloned();
    let may_change = person.may_change && tenant.is_ok();
    let parts = vec![
        Part::new("keys", "Keys", keys, |keys| keys_part(&keys, &tenant_id, &view, now)),
        Part::new("sessions", "Sessions", sessions, |listed| sessions::show(&person, &listed, &tenant_id)),
        Part::new("limits", "Limits", limits, |state| limits::show(&state)),
        Part::new("usage", "Usage", usage, |usage| {
            usage::show(&usage, limits_of_usage.as_ref(), (&tenant_id, &view), now)
        }),
        Part::new("audit", "Audit log", events, |listed| {
            entries::table(&listed.events, ("tenant", &tenant_id))
        }),
    ];
    let parts = parts::show_all(parts, tenant.is_err());
    let tenant = match tenant {
        Ok(tenant) => tenant,
        Err(failure) => return failed(&person, Place::Tenants, &tenant_id, &failure, &parts),
    };
    let applied = match view.revision {
        Some(revision) => applied::part(&console, &person, revision).await,
        None => html! {},
    };
    let content = html! {
        h1 { (tenants::name(&tenant.name)) " " (tenants::status(&tenant)) }
        (applied)
        (facts(&tenant))
        @if may_change { (forms::all(&person, &tenant)) }
        (parts)
    };
    found(&person, StatusCode::OK, &tenant.tenant_id, &content)
}

async fn read(person: &Person, tenant_id: &str, view: &View, now: UnixMillis) -> Parts {
    let id = || tenant_id.to_owned();
    let (mut tenants, mut admin_keys, mut admin_events) =
        (person.rpc.admin(), person.rpc.admin(), person.rpc.admin());
    let (mut sessions, mut limits) = (person.rpc.sessions(), person.rpc.limits());
    let keys = v1::ListKeysRequest {
        tenant_id: id(),
        page_size: PAGE_SIZE,
        page_token: view.keys_after.clone(),
        include_inactive: view.with_inactive_keys(),
        ..Default::default()
    };
    let sessions_request = v1::ListSessionsRequest {
        tenant_id: id(),
        page_size: PAGE_SIZE,
        page_token: view.sessions_after.clone(),
    };
    let limits_request = v1::GetLimitStateRequest { subject: Some(Subject::TenantId(id())) };
    let events =
        v1::ListAuditEventsRequest { tenant_id: id(), page_size: entries::SHOWN, ..Default::default() };
    let (tenant, keys, sessions, limits, usage, events) = tokio::join!(
        tenants.get_tenant(call(v1::GetTenantRequest { tenant_id: id() })),
        admin_keys.list_keys(call(keys)),
        sessions.list_sessions(call(sessions_request)),
        limits.get_limit_state(call(limits_request)),
        usage::read(person, tenant_id, view.usage, now),
        admin_events.list_audit_events(call(events)),
    );
    Parts {
        tenant: answer(tenant),
        keys: answer(keys),
        sessions: answer(sessions),
        limits: answer(limits),
        usage,
        events: answer(events),
    }
}

fn facts(tenant: &v1::Tenant) -> Markup {
    html! {
        dl.facts {
            dt { "Tenant" } dd { (id(&tenant.tenant_id)) }
            dt { "Plan" } dd { (text(&tenant.plan)) }
            @if !tenant.suspend_reason.is_empty() { dt { "Suspended" } dd { (text(&tenant.suspend_reason)) } }
            @if let Some(at) = &tenant.deletion_started_at {
                dt { "Being deleted" } dd { "since " (timestamp(Some(at), "")) }
            }
            dt { "Created" } dd { (timestamp(tenant.created_at.as_ref(), "")) }
            dt { "Changed" } dd { (timestamp(tenant.updated_at.as_ref(), "")) }
        }
    }
}

fn keys_part(listed: &v1::ListKeysResponse, tenant_id: &str, view: &View, now: UnixMillis) -> Markup {
    let path = paths::tenant(tenant_id);
    let all = view.with_inactive_keys();
    let shown: &[(&str, &str)] = if all { &[("keys", "all")] } else { &[] };
    html! {
        p {
            @if all {
                a href={ (path) "#keys" } { "Only keys that can be used" }
            } @else {
                a href={ (paths::with_query(&path, &[("keys", "all")])) "#keys" } { "Also revoked and expired keys" }
            }
        }
        @if listed.keys.is_empty() {
            (empty_page(match (view.keys_after.is_empty(), all) {
                (false, _) => "There are no more keys.",
                (true, true) => "The tenant has no keys yet.",
                (true, false) => "The tenant has no key that can be used.",
            }, &listed.next_page_token))
        } @else {
            (keys::table(&listed.keys, now, false))
        }
        (next(&path, shown, ("keys_after", &listed.next_page_token)))
    }
}
