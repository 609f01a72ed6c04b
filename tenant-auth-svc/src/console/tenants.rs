//! The list of tenants.

use axum::{extract::Query, response::Response};
use http::StatusCode;
use maud::{Markup, html};
use serde::Deserialize;
use tenant_auth_proto::v1;

use super::{
    html::{Place, id, scrolling_table, text, timestamp},
    parts::{answer, failed, found},
    paths,
    person::Person,
    rpc::call,
};

const TITLE: &str = "Tenants";
/// How many rows a list has.
pub(super) const PAGE_SIZE: i32 = 50;

/// Which page of the list.
#[derive(Debug, Deserialize)]
pub(super) struct Position {
    #[serde(default)]
    after: String,
}

pub(super) async fn list(person: Person, Query(Position { after }): Query<Position>) -> Response {
    let request =
        v1::ListTenantsRequest { page_size: PAGE_SIZE, page_token: after.clone(), ..Default::default() };
    let listed = answer(person.rpc.admin().list_tenants(call(request)).await);
    let v1::ListTenantsResponse { tenants, next_page_token } = match listed {
        Ok(listed) => listed,
        Err(failure) => return failed(&person, Place::Tenants, TITLE, &failure, &html! {}),
    };
    let content = html! {
        h1 { (TITLE) }
        @if tenants.is_empty() {
            p.empty {
                @if after.is_empty() {
                    "There is no tenant yet. " code { "tenantctl tenant create" } " creates one."
                } @else {
                    "There are no more tenants. " a href="/tenants" { "To the first ones" }
                }
            }
        } @else {
            (table(&tenants))
        }
        (next("/tenants", &[], ("after", &next_page_token)))
    };
    found(&person, StatusCode::OK, TITLE, &content)
}

/// A table of tenants.
pub(super) fn table(tenants: &[v1::Tenant]) -> Markup {
    html! {
        (scrolling_table("Tenants",
            &["Name", "Id", "Plan", "Status", "Created"],
            &html! {
                @for tenant in tenants {
                    tr {
                        td { a href=(paths::tenant(&tenant.tenant_id)) { (name(&tenant.name)) } }
                        td { (id(&tenant.tenant_id)) }
                        td { (text(&tenant.plan)) }
                        td { (status(tenant)) }
                        td { (timestamp(tenant.created_at.as_ref(), "")) }
                    }
                }
            }
        ))
    }
}

/// A name that may be empty, so that a link with it is never empty.
pub(super) fn name(name: &str) -> Markup {
    if name.trim().is_empty() {
        html! { span.none { "no name" } }
    } else {
        text(name)
    }
}

/// Whether a tenant is active.
pub(super) fn status(tenant: &v1::Tenant) -> Markup {
    html! {
        @if tenant.deletion_started_at.is_some() {
            span.tag.bad { "being deleted" }
        } @else if tenant.status() == v1::TenantStatus::Suspended {
            span.tag.bad { "suspended" }
        } @else {
            span.tag.good { "active" }
        }
    }
}

/// The text in place of an empty page. With a filter, a page may be empty although others follow.
pub(super) fn empty_page(text: &str, next_token: &str) -> Markup {
    html! {
        p.empty { @if next_token.is_empty() { (text) } @else { "Nothing among the records read so far. More follow." } }
    }
}

/// The link to the next page, if there is one.
pub(super) fn next(path: &str, parameters: &[(&str, &str)], (name, token): (&str, &str)) -> Markup {
    let mut parameters = parameters.to_vec();
    parameters.push((name, token));
    html! { @if !token.is_empty() { p { a rel="next" href=(paths::with_query(path, &parameters)) { "Next page" } } } }
}
