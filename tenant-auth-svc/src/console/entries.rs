//! The latest entries of the audit log about a tenant or a key.

use maud::{Markup, html};
use tenant_auth_proto::v1;

use super::{
    html::{scrolling_table, text, timestamp},
    paths,
};

/// How many entries are shown.
pub(super) const SHOWN: i32 = 10;

/// A table of entries, and the link to the audit log with all of them.
pub(super) fn table(events: &[v1::AuditEvent], all: (&str, &str)) -> Markup {
    html! {
        @if events.is_empty() {
            p.empty { "Nothing is in the audit log yet." }
        } @else {
            (scrolling_table("Latest entries of the audit log",
                &["Time", "Action", "By", "Of", "Detail"],
                &html! {
                    @for event in events {
                        tr {
                            td { (timestamp(event.at.as_ref(), "")) }
                            td.mono { (text(&event.action)) }
                            td { (text(&event.caller)) }
                            td.mono {
                                @if event.action.starts_with("key.") {
                                    a href=(paths::key(&event.target)) { (text(&event.target)) }
                                } @else {
                                    (text(&event.target))
                                }
                            }
                            td { (text(&event.detail)) }
                        }
                    }
                }
            ))
        }
        p { a href=(paths::with_query("/audit", &[all])) { "All entries" } }
    }
}
