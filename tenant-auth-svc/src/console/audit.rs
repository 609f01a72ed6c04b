//! The audit log: who changed what, and why.

pub(super) mod export;
mod filter;

use axum::{
    extract::RawQuery,
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use maud::{Markup, html};
use tenant_auth_proto::v1;

use self::filter::Filter;
use super::{
    failure::Failure,
    html::{Place, id, page, text, timestamp},
    person::Person,
    rpc::call,
    tenants::empty_page,
};
use crate::domain::{
    audit::{AuditAction, AuditTerm},
    id::{KeyId, TenantId},
};

/// The number of entries on a page.
const ENTRIES_PER_PAGE: i32 = 100;

pub(super) async fn show(person: Person, RawQuery(query): RawQuery) -> Response {
    let filter = match Filter::parse(query.as_deref()) {
        Ok(filter) => filter,
        Err(failure) => return failure.page(&person),
    };
    let (status, list) = match entries(&person, &filter).await {
        Ok(entries) => (StatusCode::OK, list(&filter, &entries)),
        Err(failure) => (failure.status(), failure.note()),
    };
    let content = html! {
        h1 { "Audit log" }
        (form(&filter))
        (list)
    };
    (status, page(&person, Place::Audit, "Audit log", &content)).into_response()
}

async fn entries(person: &Person, filter: &Filter) -> Result<v1::ListAuditEventsResponse, Failure> {
    let request = filter.request(ENTRIES_PER_PAGE, filter.after.clone())?;
    Ok(person.rpc.admin().list_audit_events(call(request)).await?.into_inner())
}

fn form(filter: &Filter) -> Markup {
    let term = |name: &str, label: &str, value: &str| {
        html! {
            div {
                label for=(name) { (label) }
                input id=(name) name=(name) value=(value) maxlength=(AuditTerm::MAX_LEN) autocomplete="off"
                    spellcheck="false";
            }
        }
    };
    let time = |name: &str, label: &str, value: &str| {
        html! {
            div {
                label for=(name) { (label) }
                input id=(name) name=(name) type="datetime-local" step="1" value=(value);
            }
        }
    };
    let is_other =
        !filter.action.is_empty() && AuditAction::ALL.iter().all(|action| action.as_str() != filter.action);
    html! {
        form.filters method="get" action="/audit" {
            (term("caller", "Caller", &filter.caller))
            div {
                label for="action" { "Action" }
                select #action name="action" {
                    option value="" { "any" }
                    @for action in AuditAction::ALL {
                        option value=(action.as_str()) selected[action.as_str() == filter.action] { (action.as_str()) }
                    }
                    // Of a newer version, from a link.
                    @if is_other { option value=(filter.action) selected { (filter.action) } }
                }
            }
            (term("target", "Target", &filter.target))
            (term("tenant", "Tenant", &filter.tenant))
            (time("since", "Since (UTC)", &filter.since))
            (time("until", "Until (UTC)", &filter.until))
            div.actions {
                button.primary { "Filter" }
                @if !filter.is_empty() { a href="/audit" { "Show all" } }
            }
        }
    }
}

fn list(filter: &Filter, entries: &v1::ListAuditEventsResponse) -> Markup {
    let next = &entries.next_page_token;
    html! {
        @if entries.events.is_empty() {
            (empty_page(empty_text(filter), next))
        } @else {
            div.scroll role="region" aria-label="Entries, newest first" tabindex="0" {
                table {
                    thead {
                        tr {
                            @for heading in ["Time", "Caller", "Action", "Target", "Tenant", "Detail", "Request id"] {
                                th scope="col" { (heading) }
                            }
                        }
                    }
                    tbody { @for event in &entries.events { (row(event)) } }
                }
            }
        }
        p.pages {
            @if !filter.after.is_empty() { a href=(filter.path("/audit", "")) { "Newest entries" } }
            @if !next.is_empty() { a href=(filter.path("/audit", next)) rel="next" { "Older entries" } }
        }
        @if !entries.events.is_empty() || !next.is_empty() {
            p.pages {
                a.button href=(filter.path("/audit.csv", "")) { "Export as CSV" }
                a.button href=(filter.path("/audit.json", "")) { "Export as JSON" }
                span.quiet-text { "All pages, at most " (export::MAX_ENTRIES) " entries." }
            }
        }
    }
}

fn empty_text(filter: &Filter) -> &'static str {
    if !filter.after.is_empty() {
        "There are no older entries."
    } else if filter.is_empty() {
        "Nothing has been changed yet. Every change of a tenant, a key or a limit appears here, with who made it and why."
    } else {
        "No entry matches."
    }
}

fn row(event: &v1::AuditEvent) -> Markup {
    html! {
        tr {
            td.time { (timestamp(event.at.as_ref(), "")) }
            td { (text(&event.caller)) }
            td { (text(&event.action)) }
            td { (reference(target_path(event), &event.target)) }
            td { (reference(tenant_path(&event.tenant_id), &event.tenant_id)) }
            td { (text(&event.detail)) }
            td { (id_text(&event.request_id)) }
        }
    }
}

/// The page of what was changed, if it has one.
fn target_path(event: &v1::AuditEvent) -> Option<String> {
    let (kind, _) = event.action.split_once('.')?;
    match kind {
        "key" => KeyId::parse(&event.target).ok().map(|key| format!("/keys/{key}")),
        "tenant" => tenant_path(&event.target),
        _ => None,
    }
}

fn tenant_path(tenant: &str) -> Option<String> {
    TenantId::parse(tenant).ok().map(|tenant| format!("/tenants/{tenant}"))
}

fn reference(path: Option<String>, name: &str) -> Markup {
    match path {
        Some(path) => html! { a href=(path) { (id(name)) } },
        None => id_text(name),
    }
}

/// An id that somebody may have chosen.
fn id_text(text_of_id: &str) -> Markup {
    html! { code.id { (text(text_of_id)) } }
}
