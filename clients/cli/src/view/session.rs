//! The views of sessions.

use std::collections::BTreeMap;

use serde::Serialize;
use tenant_auth_client::{Binding, Session, SessionExpiry, Validation};

use super::ValidationView;
use crate::{
    output::{self, Item, View},
    time::Moment,
};

#[derive(Debug, Serialize)]
pub(crate) struct SessionView {
    session_id: String,
    tenant_id: String,
    key_id: String,
    expiry: &'static str,
    created_at: Moment,
    expires_at: Moment,
    attributes: BTreeMap<String, String>,
}

impl SessionView {
    pub(crate) fn new(session: Session) -> Self {
        let expiry = match session.expiry {
            SessionExpiry::Fixed => "fixed",
            SessionExpiry::Sliding => "sliding",
            _ => "unknown",
        };
        Self {
            session_id: session.session_id,
            tenant_id: session.tenant_id,
            key_id: session.key_id,
            expiry,
            created_at: session.created_at.into(),
            expires_at: session.expires_at.into(),
            attributes: session.attributes,
        }
    }

    fn rows(&self) -> [(&'static str, String); 7] {
        [
            ("session", self.session_id.clone()),
            ("tenant", self.tenant_id.clone()),
            ("key", self.key_id.clone()),
            ("expiry", self.expiry.to_owned()),
            ("created", self.created_at.to_string()),
            ("expires", self.expires_at.with_relative_time(Moment::now())),
            ("attributes", attributes(&self.attributes)),
        ]
    }
}

fn attributes(attributes: &BTreeMap<String, String>) -> String {
    attributes.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

#[derive(Debug, Serialize)]
pub(crate) struct BindingView {
    bound: bool,
    verdict: String,
    already_bound: bool,
    session: Option<SessionView>,
}

impl BindingView {
    pub(crate) fn new(binding: Binding) -> Self {
        Self {
            bound: binding.verdict.is_valid(),
            verdict: binding.verdict.to_string(),
            already_bound: binding.already_bound,
            session: binding.session.map(SessionView::new),
        }
    }
}

impl View for BindingView {
    fn text(&self) -> String {
        let mut rows = vec![("verdict", self.verdict.clone())];
        rows.extend(self.session.iter().flat_map(SessionView::rows));
        output::details(&rows)
    }

    fn note(&self) -> Option<&'static str> {
        self.already_bound.then_some("the session was already bound; nothing was changed")
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct SessionValidationView {
    session_id: String,
    #[serde(flatten)]
    validation: ValidationView,
    attributes: BTreeMap<String, String>,
}

impl SessionValidationView {
    pub(crate) fn new(session_id: String, validation: Validation) -> Self {
        let attributes = validation.subject.attributes().clone();
        Self { session_id, validation: ValidationView::new(validation), attributes }
    }
}

impl View for SessionValidationView {
    fn text(&self) -> String {
        let mut rows = vec![("session", self.session_id.clone())];
        rows.extend(self.validation.rows());
        rows.push(("attributes", attributes(&self.attributes)));
        output::details(&rows)
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct UnboundView {
    session_id: String,
    was_bound: bool,
}

impl UnboundView {
    pub(crate) fn new(session_id: String, was_bound: bool) -> Self {
        Self { session_id, was_bound }
    }
}

impl View for UnboundView {
    fn text(&self) -> String {
        let outcome = if self.was_bound { "unbound" } else { "was not bound" };
        output::details(&[("session", self.session_id.clone()), ("outcome", outcome.to_owned())])
    }
}

impl Item for SessionView {
    const LIST: &'static str = "sessions";
    const HEADER: &'static [&'static str] = &["SESSION", "KEY", "EXPIRY", "CREATED", "EXPIRES", "ATTRIBUTES"];

    fn row(&self) -> Vec<String> {
        vec![
            self.session_id.clone(),
            self.key_id.clone(),
            self.expiry.to_owned(),
            self.created_at.to_string(),
            self.expires_at.to_string(),
            attributes(&self.attributes),
        ]
    }
}
