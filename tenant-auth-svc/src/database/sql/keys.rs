//! Reads the public data of keys.

use super::{
    Engine, RecordTable, UnreadableRecords,
    lookup::{read_networks, read_scopes},
    rows::{ListingReader, Records, filtered_listing_sql, listing_sql, single_row, unreadable_value},
    tenants,
};
use crate::{
    database::engine::{Row, SqlValue, Statement},
    domain::{
        clock::UnixMillis,
        etag::Etag,
        id::{KeyId, TenantId},
        key::{ApiKey, KeyPrefixCursor, StoredKey},
        page::{Page, PageRequest},
        store::{Call, StoreError},
        text::PrefixHint,
    },
};

/// The column after those of a key, in the rows of [`get`].
const DIGEST_COLUMN: usize = 15;

pub(super) const KEY_COLUMNS: &str = "id, tenant_id, name, prefix_hint, scopes, created_at, expires_at, revoked_at, \
                                  revoke_reason, last_used_at, replaced_by, pepper_id, disabled_at, version, \
                                  allowed_networks";

/// Which keys of an index's range are listed.
pub(super) struct KeyFilter<'a> {
    /// Only keys that are neither revoked nor expired at this time.
    pub(super) live_at: Option<UnixMillis>,
    /// Only those of this tenant.
    pub(super) tenant: Option<&'a TenantId>,
}

impl KeyFilter<'_> {
    fn is_empty(&self) -> bool {
        self.live_at.is_none() && self.tenant.is_none()
    }

    /// A listing of the keys that match. `from` has the arguments before `live_at`; the filter's own are
    /// `?{live_at}` and the next one.
    pub(super) fn listing(&self, position: &[&str], from: &str, live_at: usize) -> String {
        let tenant = live_at + 1;
        let condition = format!(
            "(?{live_at} IS NULL OR (revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?{live_at}))) \
             AND (?{tenant} IS NULL OR tenant_id = ?{tenant})"
        );
        match self.is_empty() {
            true => listing_sql(KEY_COLUMNS, from),
            false => filtered_listing_sql(KEY_COLUMNS, position, &condition, from),
        }
    }

    /// Binds the filter's own arguments, if there is a filter.
    pub(super) fn bind(&self, statement: Statement) -> Statement {
        match self.is_empty() {
            true => statement,
            false => statement.bind(self.live_at.map(|at| at.0)).bind(self.tenant.map(TenantId::as_str)),
        }
    }

    pub(super) fn records<Raw, Cursor>(&self, cursor_at: fn(&Raw) -> Option<Cursor>) -> Records<Raw, Cursor> {
        if self.is_empty() { Records::All } else { Records::Matching(cursor_at) }
    }
}

pub(super) async fn list<E: Engine>(
    engine: &E,
    unreadable: &UnreadableRecords,
    call: Call,
    tenant: &TenantId,
    page: &PageRequest<KeyId>,
    live_at: Option<UnixMillis>,
) -> Result<Page<ApiKey, KeyId>, StoreError> {
    let filter = KeyFilter { live_at, tenant: None };
    let sql =
        filter.listing(&["id"], "FROM api_keys WHERE tenant_id = ?1 AND id > ?2 ORDER BY id LIMIT ?3", 4);
    let statement = |after: &String, limit| {
        filter.bind(Statement::new(sql.as_str()).bind(tenant.as_str()).bind(after.as_str()).bind(limit))
    };
    let keys = ListingReader {
        table: RecordTable::ApiKeys,
        id_column: 0,
        records: filter.records(|id: &String| KeyId::parse(id).ok()),
        read_position: |row| row.text(0).map(str::to_owned),
        read_record: read_key,
        cursor_of: |key| key.id.clone(),
    };
    let after = page.after.as_ref().map_or("", KeyId::as_str).to_owned();
    keys.read_page((engine, unreadable, call), page.size, after, statement).await
}

/// Finds keys whose stored first characters begin with a prefix, or are a beginning of it.
///
/// Each shorter beginning is a separate search, so that a page continues on the index where the previous one ended,
/// and reads at most a page of each. Keys of other tenants with such a beginning are read too.
pub(super) async fn find<E: Engine>(
    engine: &E,
    unreadable: &UnreadableRecords,
    call: Call,
    (prefix, tenant): (&PrefixHint, Option<&TenantId>),
    page: &PageRequest<KeyPrefixCursor>,
    live_at: Option<UnixMillis>,
) -> Result<Page<ApiKey, KeyPrefixCursor>, StoreError> {
    let filter = KeyFilter { live_at, tenant };
    let prefix = prefix.as_str();
    let shorter = || prefix.char_indices().skip(1).map(|(end, _)| &prefix[..end]);
    let statement = |after: &(String, String), limit| {
        let (after_hint, after_id) = (after.0.as_str(), after.1.as_str());
        // After the filter's arguments: the shorter beginnings that are not before the position of the page.
        let first_hint = if filter.is_empty() { 7 } else { 9 };
        let shorter_hints: Vec<_> = shorter().filter(|hint| *hint >= after_hint).collect();
        let equal = (0..shorter_hints.len()).map(|index| {
            let hint = index + first_hint;
            prefix_branch_sql(
                &format!("prefix_hint = ?{hint} AND id > CASE WHEN ?{hint} = ?1 THEN ?2 ELSE '' END"),
                "id",
            )
        });
        let prefix_range =
            prefix_branch_sql("(prefix_hint, id) > (?3, ?4) AND prefix_hint < ?5", "prefix_hint, id");
        let from_begin = (prefix, "");
        let (begin_hint, begin_id) = from_begin.max((after_hint, after_id));
        // In order already, because a beginning sorts before everything that is longer.
        let branches: Vec<_> = equal.chain([prefix_range]).collect();
        let from = format!("FROM ({}) LIMIT ?6", branches.join(" UNION ALL "));
        let statement = Statement::new(filter.listing(&["id", "prefix_hint"], &from, 7))
            .bind(after_hint)
            .bind(after_id)
            .bind(begin_hint)
            .bind(begin_id)
            // Greater than every hint that begins with the prefix.
            .bind(format!("{prefix}{}", char::MAX))
            .bind(limit);
        shorter_hints.into_iter().fold(filter.bind(statement), Statement::bind)
    };
    let keys = ListingReader {
        table: RecordTable::ApiKeys,
        id_column: 0,
        records: filter.records(|(hint, id): &(String, String)| {
            Some(KeyPrefixCursor { prefix_hint: hint.clone(), id: KeyId::parse(id).ok()? })
        }),
        read_position: |row| Ok((row.text(3)?.to_owned(), row.text(0)?.to_owned())),
        read_record: read_key,
        cursor_of: |key| KeyPrefixCursor { prefix_hint: key.prefix_hint.clone(), id: key.id.clone() },
    };
    let after = page.after.as_ref().map(|after| (after.prefix_hint.clone(), after.id.to_string()));
    keys.read_page((engine, unreadable, call), page.size, after.unwrap_or_default(), statement).await
}

fn prefix_branch_sql(keys: &str, order: &str) -> String {
    // The first condition matches that of the partial index.
    format!(
        "SELECT * FROM (SELECT {KEY_COLUMNS} FROM api_keys INDEXED BY api_keys_by_prefix \
         WHERE prefix_hint <> '' AND {keys} ORDER BY {order} LIMIT ?6)"
    )
}

/// Reads a key and its tenant.
pub(super) async fn get<E: Engine>(
    engine: &E,
    unreadable: &UnreadableRecords,
    call: Call,
    id: &KeyId,
) -> Result<Option<StoredKey>, StoreError> {
    let (key, tenant) = (qualified("api_keys", KEY_COLUMNS), qualified("tenants", tenants::TENANT_COLUMNS));
    let statement = Statement::new(format!(
        "SELECT {key}, api_keys.key_hash, {tenant} FROM (SELECT 1) LEFT JOIN api_keys ON api_keys.id = ?1 \
         LEFT JOIN tenants ON tenants.id = api_keys.tenant_id"
    ));
    let rows = engine.query(call, statement.bind(id.as_str())).await?;
    let Some(row) = single_row(&rows)? else { return Ok(None) };
    Ok(Some(unreadable.check(RecordTable::ApiKeys, (row, 0), read_stored_key(row))?))
}

fn read_stored_key(row: &Row) -> Result<StoredKey, StoreError> {
    let digest = match row.0.get(DIGEST_COLUMN) {
        Some(SqlValue::Blob(digest)) => {
            <[u8; 32]>::try_from(&digest[..]).map_err(|_| unreadable_value("digest"))?
        }
        _ => return Err(unreadable_value("digest")),
    };
    let tenant_row = Row(row.0.iter().skip(DIGEST_COLUMN + 1).cloned().collect());
    let tenant =
        tenant_row.optional_text(0)?.is_some().then(|| tenants::read_tenant(&tenant_row)).transpose()?;
    Ok(StoredKey { key: read_key(row)?, tenant, digest })
}

/// Returns a list of columns with the name of their table.
pub(super) fn qualified(table: &str, columns: &str) -> String {
    columns.split(", ").map(|column| format!("{table}.{column}")).collect::<Vec<_>>().join(", ")
}

pub(super) fn select_key(id: &KeyId) -> Statement {
    Statement::new(format!("SELECT {KEY_COLUMNS} FROM (SELECT 1) LEFT JOIN api_keys ON api_keys.id = ?1"))
        .bind(id.as_str())
}

pub(super) fn single_key(rows: &[Row]) -> Result<Option<ApiKey>, StoreError> {
    single_row(rows)?.map(read_key).transpose()
}

pub(super) fn read_key(row: &Row) -> Result<ApiKey, StoreError> {
    let key_id = |text: &str| KeyId::parse(text).map_err(|_| unreadable_value("key id"));
    let revoked_at = row.optional_integer(7)?.map(UnixMillis);
    Ok(ApiKey {
        id: key_id(row.text(0)?)?,
        tenant_id: TenantId::parse(row.text(1)?).map_err(|_| unreadable_value("tenant id"))?,
        name: row.text(2)?.to_owned(),
        prefix_hint: row.text(3)?.to_owned(),
        scopes: read_scopes(row.text(4)?, revoked_at)?,
        created_at: UnixMillis(row.integer(5)?),
        expires_at: row.optional_integer(6)?.map(UnixMillis),
        revoked_at,
        revoke_reason: row.text(8)?.to_owned(),
        last_used_at: row.optional_integer(9)?.map(UnixMillis),
        replaced_by: row.optional_text(10)?.map(key_id).transpose()?,
        pepper_id: row.optional_text(11)?.map(str::to_owned),
        disabled_at: row.optional_integer(12)?.map(UnixMillis),
        etag: Etag::of_version(row.integer(13)?),
        allowed_networks: read_networks(row.text(14)?, revoked_at)?,
    })
}
