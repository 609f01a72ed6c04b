//! The sessions of a tenant.

use maud::{Markup, html};
use tenant_auth_proto::v1;

use crate::console::{
    html::{form_token, id, scrolling_table, text, timestamp},
    paths,
    person::Person,
    reason,
    tenants::{empty_page, next},
};

/// A table of sessions, with a form to end each.
pub(super) fn show(person: &Person, listed: &v1::ListSessionsResponse, tenant_id: &str) -> Markup {
    html! {
        @if listed.sessions.is_empty() {
            (empty_page("No session is bound to the tenant.", &listed.next_page_token))
        } @else {
            (scrolling_table("Sessions",
                if person.may_change { &["Session", "Key", "Bound", "Expires", "End it"] } else { &["Session", "Key", "Bound", "Expires"] },
                &html! {
                    @for (number, session) in listed.sessions.iter().enumerate() {
                        (row(person, session, number))
                    }
                }
            ))
        }
        (next(&paths::tenant(tenant_id), &[], ("sessions_after", &listed.next_page_token)))
    }
}

fn row(person: &Person, session: &v1::Session, number: usize) -> Markup {
    html! {
        tr {
            td.mono { (text(&session.session_id)) }
            td { a href=(paths::key(&session.key_id)) { (id(&session.key_id)) } }
            td { (timestamp(session.created_at.as_ref(), "")) }
            td {
                (timestamp(session.expires_at.as_ref(), ""))
                @if session.expiry() == v1::SessionExpiry::Sliding { ", later if it is used" }
            }
            @if person.may_change {
                td {
                    details {
                        summary { "Unbind" }
                        form.stacked method="post" action="/sessions/unbind" {
                            (form_token(person))
                            input type="hidden" name="session_id" value=(session.session_id);
                            input type="hidden" name="tenant_id" value=(session.tenant_id);
                            (reason::field(&format!("unbind-{number}")))
                            button.danger { "Unbind the session" }
                        }
                    }
                }
            }
        }
    }
}
