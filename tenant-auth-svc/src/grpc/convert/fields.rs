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
pub(super) struct FieldValidator {
    violations: Vec<Violation>,
}

impl FieldValidator {
    /// Of the message itself.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// A field's value, or a violation.
    pub(super) fn check<T, E: Display>(&mut self, field: &str, parsed: Result<T, E>) -> Option<T> {
        parsed.map_err(|error| self.add_violation(field, error)).ok()
    }

    /// Notes what is wrong with a field.
    pub(super) fn add_violation(&mut self, field: &str, description: impl Display) {
        let violation = Violation { field: field.to_owned(), description: description.to_string() };
        self.violations.push(violation);
    }

    /// Everything that is wrong.
    pub(super) fn into_error(self) -> ApiError {
        ApiError::Invalid(self.violations)
    }

    /// Whether nothing is wrong so far.
    pub(super) fn is_valid(&self) -> bool {
        self.violations.is_empty()
    }

    /// A list of scopes.
    pub(super) fn parse_scopes(&mut self, field: &str, scopes: &[String]) -> Option<ScopeSet> {
        if scopes.len() > ScopeSet::MAX_SCOPES {
            self.add_violation(field, InvalidScope::TooMany);
            return None;
        }
        let mut parsed = Vec::with_capacity(scopes.len());
        for (index, scope) in scopes.iter().enumerate() {
            match Scope::parse(scope) {
                Ok(scope) => parsed.push(scope),
                Err(error) => {
                    self.add_violation(&format!("{field}[{index}]"), error);
                    return None;
                }
            }
        }
        let set = ScopeSet::new(parsed);
        self.check(field, set)
    }

    /// A page's size and token.
    pub(super) fn parse_page<C>(
        &mut self,
        size: i32,
        token: &str,
        cursor: impl FnOnce(&str) -> Option<C>,
    ) -> Option<PageRequest<C>> {
        self.parse_page_with_sizes((PageSize::DEFAULT, PageSize::MAX), size, token, cursor)
    }

    /// The same for a list with a default and a largest size of its own.
    pub(super) fn parse_page_with_sizes<C>(
        &mut self,
        sizes: (PageSize, PageSize),
        size: i32,
        token: &str,
        cursor: impl FnOnce(&str) -> Option<C>,
    ) -> Option<PageRequest<C>> {
        let size = self.check("page_size", PageSize::from_request_within(size, sizes));
        let after = if token.is_empty() {
            Some(None)
        } else {
            let text = BASE64_URL_SAFE_NO_PAD.decode(token).ok();
            let cursor = text.and_then(|text| String::from_utf8(text).ok()).and_then(|t| cursor(&t));
            if cursor.is_none() {
                self.add_violation("page_token", "is not from a page of this list");
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
