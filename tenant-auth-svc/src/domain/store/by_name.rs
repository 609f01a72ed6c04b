//! Tenants and keys by their names.

use std::{fmt, future::Future};

use super::{Call, StoreError};
use crate::domain::{
    clock::UnixMillis,
    id::{KeyId, TenantId},
    key::ApiKey,
    page::{Page, PageRequest},
    tenant::Tenant,
    text::NamePrefix,
};

/// Finds tenants and keys by the beginning of their names, without regard to the case of A to Z. Both fail as the methods of
/// [`Store`](super::Store) do.
pub trait NamedRecords: Send + Sync + 'static {
    /// Lists tenants by name and then by id.
    fn find_tenants_by_name(
        &self,
        call: Call,
        prefix: &NamePrefix,
        page: &PageRequest<NameCursor<TenantId>>,
    ) -> impl Future<Output = Result<Page<Tenant, NameCursor<TenantId>>, StoreError>> + Send;

    /// Lists keys, of one tenant or of all, by name and then by id; with `live_at`, only those that are neither revoked nor
    /// expired at that time.
    fn find_keys_by_name(
        &self,
        call: Call,
        what: (&NamePrefix, Option<&TenantId>),
        page: &PageRequest<NameCursor<KeyId>>,
        live_at: Option<UnixMillis>,
    ) -> impl Future<Output = Result<Page<ApiKey, NameCursor<KeyId>>, StoreError>> + Send;
}

/// Position of a record in a list by name: by its name, and among equal ones by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameCursor<Id> {
    /// Its name, as stored.
    pub name: String,
    /// Its id.
    pub id: Id,
}

/// Distinguishes the position from those of other lists: no id begins with it.
const MARK: char = '~';

impl<Id> NameCursor<Id> {
    /// Parses the text that [`Display`](fmt::Display) writes.
    #[must_use]
    pub fn parse<E>(text: &str, id: impl FnOnce(&str) -> Result<Id, E>) -> Option<Self> {
        // No id contains a space.
        let (position, name) = text.strip_prefix(MARK)?.split_once(' ')?;
        Some(Self { name: name.to_owned(), id: id(position).ok()? })
    }
}

impl<Id: fmt::Display> fmt::Display for NameCursor<Id> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MARK}{} {}", self.id, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_round_trips_through_text() {
        let position =
            NameCursor { name: "Acme & Söhne ~ 2".to_owned(), id: TenantId::parse("ten_1").unwrap() };
        assert_eq!(NameCursor::parse(&position.to_string(), TenantId::parse), Some(position));
        for text in ["", "~", "~ten_1", "ten_1 Acme", "~ten.1 Acme"] {
            assert_eq!(NameCursor::parse(text, TenantId::parse), None, "{text}");
        }
    }
}
