//! The forms that change a tenant.

use maud::{Markup, html};
use tenant_auth_proto::v1;

use crate::console::{html::form_token, paths, person::Person, reason, sent_forms};

/// All forms that have an effect in the present state of the tenant.
pub(super) fn all(person: &Person, tenant: &v1::Tenant) -> Markup {
    let path = paths::tenant(&tenant.tenant_id);
    if tenant.deletion_started_at.is_some() {
        return html! { p.empty { "The tenant is being deleted: it cannot be changed." } };
    }
    html! {
        div.actions {
            (issue(person, &path))
            @if tenant.status() == v1::TenantStatus::Suspended {
                details {
                    summary { "Resume" }
                    form.stacked method="post" action={ (path) "/resume" } {
                        (form_token(person))
                        p { "The keys of the tenant are valid again." }
                        (reason::field("resume"))
                        button.primary { "Resume the tenant" }
                    }
                }
            } @else {
                details {
                    summary { "Suspend" }
                    form.stacked method="post" action={ (path) "/suspend" } {
                        (form_token(person))
                        p {
                            "All keys and sessions of the tenant are refused until it is resumed. After ten minutes its "
                            "sessions end for good."
                        }
                        (reason::field("suspend"))
                        button.danger { "Suspend the tenant" }
                    }
                }
            }
        }
    }
}

fn issue(person: &Person, path: &str) -> Markup {
    html! {
        details {
            summary { "Issue a key" }
            form.stacked method="post" action={ (path) "/keys" } {
                (form_token(person))
                (sent_forms::field())
                label for="issue-name" { "Name" }
                input #issue-name name="name" maxlength="64" autocomplete="off";
                label for="issue-scopes" { "Scopes, separated by spaces" }
                input #issue-scopes name="scopes" autocomplete="off" spellcheck="false";
                label for="issue-networks" { "Networks from which it may be used; empty: from everywhere" }
                input #issue-networks name="networks" autocomplete="off" spellcheck="false"
                    placeholder="203.0.113.0/24 2001:db8::/32";
                label for="issue-days" { "Expires after days; empty: never" }
                input #issue-days name="expires_in_days" type="number" min="1" max="3650";
                (reason::field("issue"))
                button.primary { "Issue the key" }
            }
        }
    }
}
