//! Collects the invalid fields of a request.

use std::fmt::Display;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::{
    domain::{
        network::{AllowedNetworks, ClientAddress, InvalidNetwork},
        page::{PageRequest, PageSize},
        scope::{InvalidScope, Scope, ScopeSet},
        text::Reason,
    },
    grpc::error::{ApiError, Violation},
};

/// A parsed request, or its invalid fields.
pub(super) type ParseResult<T> = Result<T, ApiError>;

/// The invalid fields of one request.
#[derive(Debug, Default)]
pub(super) struct FieldValidator {
    violations: Vec<Violation>,
}

impl FieldValidator {
    /// Creates a validator without violations.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Returns a field's value, or adds a violation.
    pub(super) fn check<T, E: Display>(&mut self, field: &str, parsed: Result<T, E>) -> Option<T> {
        parsed.map_err(|error| self.add_violation(field, error)).ok()
    }

    /// Adds a violation.
    pub(super) fn add_violation(&mut self, field: &str, description: impl Display) {
        let violation = Violation { field: field.to_owned(), description: description.to_string() };
        self.violations.push(violation);
    }

    /// Returns all violations as an error.
    pub(super) fn into_error(self) -> ApiError {
        ApiError::Invalid(self.violations)
    }

    /// Returns whether no field has been invalid so far.
    pub(super) fn is_valid(&self) -> bool {
        self.violations.is_empty()
    }

    /// Parses a reason that may be empty.
    pub(super) fn parse_optional_reason(&mut self, reason: &str) -> Option<Option<Reason>> {
        match reason {
            "" => Some(None),
            reason => self.check("reason", Reason::parse(reason)).map(Some),
        }
    }

    /// Parses a list of scopes.
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

    /// Parses a list of networks.
    pub(super) fn parse_networks(&mut self, field: &str, networks: &[String]) -> Option<AllowedNetworks> {
        match AllowedNetworks::parse(networks) {
            Ok(networks) => Some(networks),
            Err((_, error @ InvalidNetwork::TooMany)) => {
                self.add_violation(field, error);
                None
            }
            Err((index, error)) => {
                self.add_violation(&format!("{field}[{index}]"), error);
                None
            }
        }
    }

    /// Parses the address of a customer: `Some(None)` if the text is empty.
    pub(super) fn parse_client_address(&mut self, text: &str) -> Option<Option<ClientAddress>> {
        match text {
            "" => Some(None),
            text => self.check("client_address", ClientAddress::parse(text)).map(Some),
        }
    }

    /// Parses the size and the token of a page.
    pub(super) fn parse_page<C>(
        &mut self,
        size: i32,
        token: &str,
        cursor: impl FnOnce(&str) -> Option<C>,
    ) -> Option<PageRequest<C>> {
        self.parse_page_with_sizes((PageSize::DEFAULT, PageSize::MAX), size, token, cursor)
    }

    /// Parses a page of a list with its own default and maximum size.
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
                self.add_violation("page_token", "is not a page token of this list");
            }
            cursor.map(Some)
        };
        Some(PageRequest { size: size?, after: after? })
    }
}

/// Encodes a cursor, so that callers do not depend on its format.
pub(super) fn page_token(cursor: Option<impl Display>) -> String {
    cursor.map_or_else(String::new, |cursor| BASE64_URL_SAFE_NO_PAD.encode(cursor.to_string()))
}
