//! Collects what is wrong with a request, field by field.

use std::fmt::Display;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::{
    domain::{
        page::{PageRequest, PageSize},
        scope::{InvalidScope, Scope, ScopeSet},
    },
    grpc::error::{ApiError, Violation},
};

/// The fields of one request, and everything that is wrong with them.
#[derive(Debug, Default)]
pub(super) struct Fields {
    violations: Vec<Violation>,
}

impl Fields {
    /// Of the message itself.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// A field's value, or a violation.
    pub(super) fn take<T, E: Display>(&mut self, field: &str, parsed: Result<T, E>) -> Option<T> {
        parsed.map_err(|error| self.violation(field, error)).ok()
    }

    /// Notes what is wrong with a field.
    pub(super) fn violation(&mut self, field: &str, description: impl Display) {
        let violation = Violation { field: field.to_owned(), description: description.to_string() };
        self.violations.push(violation);
    }

    /// Everything that is wrong.
    pub(super) fn error(self) -> ApiError {
        ApiError::Invalid(self.violations)
    }

    /// Whether nothing is wrong so far.
    pub(super) fn is_valid(&self) -> bool {
        self.violations.is_empty()
    }

    /// A list of scopes.
    pub(super) fn scopes(&mut self, field: &str, scopes: &[String]) -> Option<ScopeSet> {
        if scopes.len() > ScopeSet::MAX_SCOPES {
            self.violation(field, InvalidScope::TooMany);
            return None;
        }
        let mut parsed = Vec::with_capacity(scopes.len());
        for (index, scope) in scopes.iter().enumerate() {
            match Scope::parse(scope) {
                Ok(scope) => parsed.push(scope),
                Err(error) => {
                    self.violation(&format!("{field}[{index}]"), error);
                    return None;
                }
            }
        }
        let set = ScopeSet::new(parsed);
        self.take(field, set)
    }

    /// A page's size and token.
    pub(super) fn page<C>(
        &mut self,
        size: i32,
        token: &str,
        cursor: impl FnOnce(&str) -> Option<C>,
    ) -> Option<PageRequest<C>> {
        self.page_of((PageSize::DEFAULT, PageSize::MAX), size, token, cursor)
    }

    /// The same for a list with a default and a largest size of its own.
    pub(super) fn page_of<C>(
        &mut self,
        sizes: (PageSize, PageSize),
        size: i32,
        token: &str,
        cursor: impl FnOnce(&str) -> Option<C>,
    ) -> Option<PageRequest<C>> {
        let size = self.take("page_size", PageSize::requested_of(size, sizes));
        let after = if token.is_empty() {
            Some(None)
        } else {
            let text = BASE64_URL_SAFE_NO_PAD.decode(token).ok();
            let cursor = text.and_then(|text| String::from_utf8(text).ok()).and_then(|t| cursor(&t));
            if cursor.is_none() {
                self.violation("page_token", "is not from a page of this list");
            }
            cursor.map(Some)
        };
        Some(PageRequest { size: size?, after: after? })
    }
}

/// Hides a cursor in a token: callers must not build on how it looks.
pub(super) fn page_token(cursor: Option<impl Display>) -> String {
    cursor.map_or_else(String::new, |cursor| BASE64_URL_SAFE_NO_PAD.encode(cursor.to_string()))
}
