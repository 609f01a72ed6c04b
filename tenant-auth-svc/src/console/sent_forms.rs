//! Forms that must have an effect once. A browser that reloads the answer to a form sends the form again.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use http::StatusCode;
use maud::{Markup, html};
use serde::Deserialize;

use super::{failure::Failure, logins::random_id};

/// How many forms are remembered; the oldest is forgotten then.
const MAX_FORMS: usize = 1_000;
/// The name of the field with the id of a form.
const FIELD: &str = "form_id";
const ID_LEN: usize = 64;

/// The id of a form, drawn when its page was shown.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct FormId(String);

/// The forms that were sent, by this replica's people since it started.
#[derive(Debug, Default)]
pub(super) struct SentForms(Mutex<VecDeque<SentForm>>);

#[derive(Clone, Debug)]
struct SentForm {
    id: FormId,
    /// What it has made; `None` while it is not known.
    outcome: Option<String>,
}

/// A form was sent before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SentBefore {
    /// What it has made, if that is known.
    pub(super) outcome: Option<String>,
}

impl SentForms {
    /// Notes that a form was sent. Its outcome is unknown until [`Self::settle`].
    pub(super) fn begin(&self, id: &FormId) -> Result<(), SentBefore> {
        let mut forms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sent) = forms.iter().find(|form| form.id == *id) {
            return Err(SentBefore { outcome: sent.outcome.clone() });
        }
        if forms.len() >= MAX_FORMS {
            forms.pop_front();
        }
        forms.push_back(SentForm { id: id.clone(), outcome: None });
        Ok(())
    }

    /// Notes what a form has made.
    pub(super) fn settle(&self, id: &FormId, outcome: &str) {
        let mut forms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sent) = forms.iter_mut().find(|form| form.id == *id) {
            sent.outcome = Some(outcome.to_owned());
        }
    }

    /// Forgets a form that had no effect: it may be sent again.
    pub(super) fn forget(&self, id: &FormId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|form| form.id != *id);
    }
}

impl FormId {
    /// Refuses what no page contained.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.0.len() == ID_LEN && self.0.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(());
        }
        Err(Failure::new(
            StatusCode::BAD_REQUEST,
            "The form has no id. Open its page again, and send it from there.",
        ))
    }
}

/// The hidden field with the id of a form.
pub(super) fn field() -> Markup {
    let id = random_id().unwrap_or_default();
    html! { input type="hidden" name=(FIELD) value=(*id); }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(number: usize) -> FormId {
        FormId(format!("{number:064x}"))
    }

    #[test]
    fn form_has_an_effect_once() {
        let forms = SentForms::default();
        assert_eq!(forms.begin(&form(1)), Ok(()));
        assert_eq!(forms.begin(&form(1)), Err(SentBefore { outcome: None }), "while it is being handled");
        forms.settle(&form(1), "key_1");
        assert_eq!(forms.begin(&form(1)), Err(SentBefore { outcome: Some("key_1".to_owned()) }));
        assert_eq!(forms.begin(&form(2)), Ok(()));
        forms.forget(&form(2));
        assert_eq!(forms.begin(&form(2)), Ok(()), "it had no effect");
    }

    #[test]
    fn remembered_forms_are_bounded() {
        let forms = SentForms::default();
        for number in 0..=MAX_FORMS {
            forms.begin(&form(number)).unwrap();
        }
        assert_eq!(forms.0.lock().unwrap().len(), MAX_FORMS);
        assert!(forms.begin(&form(MAX_FORMS)).is_err());
    }

    #[test]
    fn id_comes_from_a_page() {
        assert!(form(1).check().is_ok());
        for other in ["", "1", &"z".repeat(64)] {
            assert!(FormId(other.to_owned()).check().is_err(), "{other}");
        }
    }
}
