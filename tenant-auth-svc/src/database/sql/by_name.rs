//! Tenants and keys by the beginning of their names.
//!
//! A page has two parts, each a range of an index in the order of the list: the rest of the records with the name at which
//! the previous page ended, and those with greater names. So a page costs the same wherever it is in the list.

use super::{
    Engine, RecordTable, SqlStore,
    keys::{KEY_COLUMNS, read_key},
    rows::{ListingReader, listing_sql, lookahead_limit},
    tenants::{TENANT_COLUMNS, read_tenant},
};
use crate::{
    database::engine::Statement,
    domain::{
        clock::UnixMillis,
        id::{KeyId, TenantId},
        key::ApiKey,
        page::{Page, PageRequest, PageSize},
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
        let sql = page_sql(TENANT_COLUMNS, "tenants INDEXED BY tenants_by_name", "");
        let statement = |after: &Position| bind_range(&sql, prefix, after, page.size);
        let tenants = ListingReader {
            table: RecordTable::Tenants,
            id_column: 0,
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
        // The first condition matches that of the partial index.
        let conditions = "name <> '' \
             AND (?5 IS NULL OR (revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?5))) \
             AND (?6 IS NULL OR tenant_id = ?6) AND ";
        let sql = page_sql(KEY_COLUMNS, "api_keys INDEXED BY api_keys_by_name", conditions);
        let statement = |after: &Position| {
            bind_range(&sql, prefix, after, page.size)
                .bind(live_at.map(|at| at.0))
                .bind(tenant.map(TenantId::as_str))
        };
        let keys = ListingReader {
            table: RecordTable::ApiKeys,
            id_column: 0,
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

fn page_sql(columns: &str, table: &str, conditions: &str) -> String {
    let part = |range: &str, order: &str| {
        format!(
            "SELECT * FROM (SELECT {columns} FROM {table} \
             WHERE {conditions}{range} AND name COLLATE NOCASE < ?3 ORDER BY {order} LIMIT ?4)"
        )
    };
    let order = "name COLLATE NOCASE, id";
    let same_name = part("name COLLATE NOCASE = ?1 AND id > ?2", "id");
    let greater_names = part("name COLLATE NOCASE > ?1", order);
    let from = format!("FROM ({same_name} UNION ALL {greater_names}) ORDER BY {order} LIMIT ?4");
    listing_sql(columns, &from, order)
}

fn bind_range(sql: &str, prefix: &NamePrefix, after: &Position, size: PageSize) -> Statement {
    let prefix = prefix.as_str();
    // In the order of the index.
    let is_within = after.0.to_ascii_lowercase() >= prefix.to_ascii_lowercase();
    let (name, id) = if is_within { (after.0.as_str(), after.1.as_str()) } else { (prefix, "") };
    Statement::new(sql)
        .bind(name)
        .bind(id)
        // Greater than every name that begins with the prefix.
        .bind(format!("{prefix}{}", char::MAX))
        .bind(lookahead_limit(size))
}
