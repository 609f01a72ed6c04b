//! The forms that change a key.

use maud::{Markup, html};
use tenant_auth_proto::v1;

use crate::{
    console::{html::form_token, keys::Standing, paths, person::Person, reason, sent_forms},
    domain::clock::UnixMillis,
};

/// All forms that have an effect in the present state of the key.
pub(super) fn all(person: &Person, key: &v1::ApiKey, now: UnixMillis) -> Markup {
    let path = paths::key(&key.key_id);
    let standing = Standing::of(key, now);
    if standing == Standing::Revoked {
        return html! { p.empty { "A revoked key cannot be changed." } };
    }
    let can_be_rotated = standing == Standing::Active && key.replaced_by_key_id.is_empty();
    html! {
        div.actions {
            @if can_be_rotated { (rotate(person, &path)) }
            @if key.enabled {
                details {
                    summary { "Pause" }
                    form.stacked method="post" action={ (path) "/pause" } {
                        (form_token(person))
                        p { "The key and its sessions are refused until it is resumed." }
                        (reason::field("pause"))
                        button { "Pause the key" }
                    }
                }
            } @else {
                details {
                    summary { "Resume" }
                    form.stacked method="post" action={ (path) "/resume" } {
                        (form_token(person))
                        (reason::field("resume"))
                        button.primary { "Resume the key" }
                    }
                }
            }
            details {
                summary { "Revoke" }
                form.stacked method="post" action={ (path) "/revoke" } {
                    (form_token(person))
                    p { "The key and its sessions are refused for good. This cannot be undone." }
                    (reason::field("revoke"))
                    button.danger { "Revoke the key" }
                }
            }
        }
    }
}

fn rotate(person: &Person, path: &str) -> Markup {
    html! {
        details {
            summary { "Rotate" }
            form.stacked method="post" action={ (path) "/rotate" } {
                (form_token(person))
                (sent_forms::field())
                p { "Issues a successor with the same tenant, name, scopes and networks." }
                label for="rotate-overlap" { "Hours that the old key stays valid" }
                input #rotate-overlap name="overlap_hours" type="number" min="0" max="2160" value="24" required;
                label for="rotate-expiry" { "The successor expires" }
                select #rotate-expiry name="expiry" {
                    option value="kept" { "when the old key would have expired" }
                    option value="never" { "never" }
                    option value="days" { "after this number of days:" }
                }
                label for="rotate-days" { "Days" }
                input #rotate-days name="expires_in_days" type="number" min="1" max="3650";
                (reason::field("rotate"))
                button.primary { "Rotate the key" }
            }
        }
    }
}
