//! Tenants and keys by the beginning of their names.
//!
//! A page has two parts, each a range of an index in the order of the list: the rest of the records with the name at which
//! the previous page ended, and those with greater names. So a page costs the same wherever it is in the list.

use super::{
    Engine, RecordTable, SqlStore,
    keys::{KeyFilter, read_key},
    rows::{ListingReader, Records, listing_sql},
    tenants::{TENANT_COLUMNS, read_tenant},
};
use crate::{
    database::engine::Statement,
    domain::{
        clock::UnixMillis,
        id::{KeyId, TenantId},
        key::ApiKey,
        page::{Page, PageRequest},
        store::{Call, NameCursor, NamedRecords, StoreError},
        tenant::Tenant,
        text::NamePrefix,
    },
};

impl<E: Engine> NamedRecords for SqlStore<E> {
    async fn find_tenants_by_name(
        &self,
        call: Call,
        prefix: &NamePrefix,
        page: &PageRequest<NameCursor<TenantId>>,
    ) -> Result<Page<Tenant, NameCursor<TenantId>>, StoreError> {
        let sql = listing_sql(TENANT_COLUMNS, &range_sql("tenants INDEXED BY tenants_by_name", ""));
        let statement = |after: &Position, limit| bind_range(&sql, prefix, after, limit);
        let tenants = ListingReader {
            table: RecordTable::Tenants,
            id_column: 0,
            records: Records::All,
            read_position: |row| Ok((row.text(1)?.to_owned(), row.text(0)?.to_owned())),
            read_record: read_tenant,
            cursor_of: |tenant| NameCursor { name: tenant.name.as_str().to_owned(), id: tenant.id.clone() },
        };
        let reader = (&self.engine, &*self.unreadable_records, call);
        tenants.read_page(reader, page.size, position(page), statement).await
    }

    async fn find_keys_by_name(
        &self,
        call: Call,
        (prefix, tenant): (&NamePrefix, Option<&TenantId>),
        page: &PageRequest<NameCursor<KeyId>>,
        live_at: Option<UnixMillis>,
    ) -> Result<Page<ApiKey, NameCursor<KeyId>>, StoreError> {
        // The index of the tenant's keys, if there is a tenant. The first condition matches that of either partial index.
        let (index, condition) = match tenant {
            Some(_) => ("api_keys INDEXED BY api_keys_by_tenant_name", "name <> '' AND tenant_id = ?6 AND "),
            None => ("api_keys INDEXED BY api_keys_by_name", "name <> '' AND "),
        };
        let filter = KeyFilter { live_at, tenant };
        let sql = filter.listing(&["id", "name"], &range_sql(index, condition), 5);
        let statement = |after: &Position, limit| filter.bind(bind_range(&sql, prefix, after, limit));
        let keys = ListingReader {
            table: RecordTable::ApiKeys,
            id_column: 0,
            records: filter.records(|(name, id): &Position| {
                Some(NameCursor { name: name.clone(), id: KeyId::parse(id).ok()? })
            }),
            read_position: |row| Ok((row.text(2)?.to_owned(), row.text(0)?.to_owned())),
            read_record: read_key,
            cursor_of: |key| NameCursor { name: key.name.clone(), id: key.id.clone() },
        };
        let reader = (&self.engine, &*self.unreadable_records, call);
        keys.read_page(reader, page.size, position(page), statement).await
    }
}

/// A name and an id, as stored.
type Position = (String, String);

fn position<Id: ToString>(page: &PageRequest<NameCursor<Id>>) -> Position {
    page.after.as_ref().map(|after| (after.name.clone(), after.id.to_string())).unwrap_or_default()
}

/// Returns the FROM clause of a listing. `?1` and `?2` are the position, `?3` is the end, and `?4` the limit.
fn range_sql(table: &str, condition: &str) -> String {
    let part = |range: &str, order: &str| {
        format!(
            "SELECT * FROM (SELECT * FROM {table} \
             WHERE {condition}{range} AND name COLLATE NOCASE < ?3 ORDER BY {order} LIMIT ?4)"
        )
    };
    let order = "name COLLATE NOCASE, id";
    let same_name = part("name COLLATE NOCASE = ?1 AND id > ?2", "id");
    let greater_names = part("name COLLATE NOCASE > ?1", order);
    // In order already: to sort them would read both parts to their ends.
    format!("FROM ({same_name} UNION ALL {greater_names}) LIMIT ?4")
}

fn bind_range(sql: &str, prefix: &NamePrefix, after: &Position, limit: i64) -> Statement {
    let prefix = prefix.as_str();
    // In the order of the index.
    let is_within = after.0.to_ascii_lowercase() >= prefix.to_ascii_lowercase();
    let (name, id) = if is_within { (after.0.as_str(), after.1.as_str()) } else { (prefix, "") };
    Statement::new(sql)
        .bind(name)
        .bind(id)
        // Greater than every name that begins with the prefix.
        .bind(format!("{prefix}{}", char::MAX))
        .bind(limit)
}
