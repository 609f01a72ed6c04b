//! Why a person makes a change: every form asks for it.

use maud::{Markup, html};
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::domain::text::Reason;

/// A reason, which the audit log keeps.
#[derive(Clone, Debug)]
pub(super) struct GivenReason(String);

impl GivenReason {
    /// Returns the text for a request.
    pub(super) fn into_text(self) -> String {
        self.0
    }
}

impl<'de> Deserialize<'de> for GivenReason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entered = String::deserialize(deserializer)?;
        match Reason::parse(entered.trim()) {
            Ok(reason) => Ok(Self(reason.as_str().to_owned())),
            Err(error) => Err(D::Error::custom(format!("the reason {error}"))),
        }
    }
}

/// The field for the reason. `form` tells the forms of a page apart.
pub(super) fn field(form: &str) -> Markup {
    html! {
        label for={ "reason-" (form) } { "Reason, for the audit log" }
        input id={ "reason-" (form) } name="reason" maxlength="256" autocomplete="off" required;
    }
}
