//! The page with the plaintext of a new key, which is shown once.

use axum::response::Response;
use http::StatusCode;
use maud::{Markup, html};
use tenant_auth_proto::v1;

use super::{
    failure::Failure,
    html::{Place, id, text, timestamp},
    parts::{failed, found},
    paths,
    person::Person,
    sent_forms::SentBefore,
    tenants,
};

/// Shows a new key. `replaced` is the key that it replaces.
pub(super) fn show(
    person: &Person,
    (key, plaintext): (&v1::ApiKey, &str),
    replaced: Option<&v1::ApiKey>,
    applied: &Markup,
) -> Response {
    let content = html! {
        h1 { "The new key" }
        div.note {
            p { "Copy it now, and hand it to the customer: nobody can show it again. The service keeps only its hash." }
            p.secret {
                code #new-key { (plaintext) }
                button type="button" data-copy="new-key" hidden { "Copy" }
            }
        }
        (applied)
        dl.facts {
            dt { "Name" } dd { (tenants::name(&key.name)) }
            dt { "Key" } dd { a href=(paths::key(&key.key_id)) { (id(&key.key_id)) } }
            dt { "Tenant" } dd { a href=(paths::tenant(&key.tenant_id)) { (id(&key.tenant_id)) } }
            dt { "Scopes" } dd { (text(&key.scopes.join(" "))) }
            dt { "Expires" } dd { (timestamp(key.expires_at.as_ref(), "never")) }
            @if let Some(replaced) = replaced {
                dt { "Replaces" }
                dd {
                    a href=(paths::key(&replaced.key_id)) { (id(&replaced.key_id)) }
                    ", which is valid until " (timestamp(replaced.expires_at.as_ref(), "it is revoked"))
                }
            }
        }
    };
    found(person, StatusCode::OK, "The new key", &content)
}

/// Says what has happened when a form for a new key was sent before.
pub(super) fn sent_before(person: &Person, sent: &SentBefore, subject: &str) -> Response {
    let message = match sent.outcome {
        Some(_) => {
            "This form was sent before, and its key was shown then. Nothing has happened now. The key cannot be shown again: \
             if it was not copied, revoke it and issue another one."
        }
        None => {
            "This form was sent before, and its outcome is not known. Nothing has happened now. Look at the keys before you \
             send a new form."
        }
    };
    let failure = Failure::new(StatusCode::CONFLICT, message);
    let rest = html! {
        @match &sent.outcome {
            Some(key) => p { a href=(paths::key(key)) { "To the key" } },
            None => p { a href=(subject) { "Back" } },
        }
    };
    failed(person, Place::Tenants, "Sent before", &failure, &rest)
}

/// Says that a key may exist although nobody has seen it.
pub(super) fn uncertain(person: &Person, failure: &Failure, subject: &str) -> Response {
    let rest = html! {
        p { "The key may exist, and nobody has seen it. Look for a new key without use, and revoke it." }
        p { a href=(subject) { "Back" } }
    };
    failed(person, Place::Tenants, "No key can be shown", failure, &rest)
}
