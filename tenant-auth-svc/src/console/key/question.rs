//! Why was this denied? What a request has said besides the key.

use maud::{Markup, html};
use tenant_auth_proto::v1;

use super::explained;
use crate::console::{entered::words, parts::Answer, paths};

/// What a request has said besides the key.
#[derive(Clone, Debug, Default)]
pub(super) struct Question {
    pub(super) address: String,
    pub(super) scopes: String,
}

impl Question {
    /// Whether nothing is asked.
    pub(super) fn is_empty(&self) -> bool {
        self.address.trim().is_empty() && words(&self.scopes).is_empty()
    }

    pub(super) fn request(&self, key_id: &str) -> v1::ExplainKeyRequest {
        v1::ExplainKeyRequest {
            key_id: key_id.to_owned(),
            required_scopes: words(&self.scopes),
            client_address: self.address.trim().to_owned(),
            ..Default::default()
        }
    }
}

/// The form, and the answer if something was asked.
pub(super) fn show(
    key_id: &str,
    question: &Question,
    asked: Option<&Answer<v1::ExplainKeyResponse>>,
) -> Markup {
    html! {
        @match asked {
            Some(Ok(explained)) => div.note role="status" {
                @for sentence in explained::sentences(explained, question) { p { (sentence) } }
            },
            Some(Err(failure)) => (failure.note()),
            None => {},
        }
        form.stacked method="get" action={ (paths::key(key_id)) "#why" } {
            label for="why-address" { "The address of the client" }
            input #why-address name="address" value=(question.address) maxlength="64" autocomplete="off"
                spellcheck="false" placeholder="203.0.113.7";
            label for="why-scopes" { "The scopes that the request needed" }
            input #why-scopes name="scopes" value=(question.scopes) maxlength="2048" autocomplete="off"
                spellcheck="false";
            button { "Explain" }
        }
    }
}
