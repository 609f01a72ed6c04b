//! Reading the public side of keys.

use super::{
    Engine, RecordTable, UnreadableRecords,
    lookup::scopes_of,
    overread,
    rows::{Listed, listing, only},
    unreadable,
};
use crate::{
    domain::{
        clock::UnixMillis,
        id::{KeyId, TenantId},
        key::ApiKey,
        page::{Page, PageRequest},
        store::{Call, StoreError},
    },
    store::engine::{Row, Statement},
};

const COLUMNS: &str = "id, tenant_id, name, prefix_hint, scopes, created_at, expires_at, revoked_at, \
                                  revoke_reason, last_used_at, replaced_by, pepper_id";

pub(super) async fn list<E: Engine>(
    engine: &E,
    unreadable: &UnreadableRecords,
    call: Call,
    tenant: &TenantId,
    page: &PageRequest<KeyId>,
    live_at: Option<UnixMillis>,
) -> Result<Page<ApiKey, KeyId>, StoreError> {
    let sql = listing(
        COLUMNS,
        "FROM api_keys WHERE tenant_id = ?1 AND id > ?2 \
         AND (?4 IS NULL OR (revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?4))) \
         ORDER BY id LIMIT ?3",
        "id",
    );
    let statement = |after: &String| {
        Statement::new(sql.as_str())
            .bind(tenant.as_str())
            .bind(after.as_str())
            .bind(overread(page.size))
            .bind(live_at.map(|at| at.0))
    };
    let keys = Listed {
        table: RecordTable::ApiKeys,
        named_by: 0,
        position: |row| row.text(0).map(str::to_owned),
        record: api_key,
        cursor: |key| key.id.clone(),
    };
    let after = page.after.as_ref().map_or("", KeyId::as_str).to_owned();
    keys.page((engine, unreadable, call), page.size, after, statement).await
}

pub(super) fn select(id: &KeyId) -> Statement {
    Statement::new(format!("SELECT {COLUMNS} FROM (SELECT 1) LEFT JOIN api_keys ON api_keys.id = ?1"))
        .bind(id.as_str())
}

pub(super) fn key_in(rows: &[Row]) -> Result<Option<ApiKey>, StoreError> {
    only(rows)?.map(api_key).transpose()
}

fn api_key(row: &Row) -> Result<ApiKey, StoreError> {
    let key_id = |text: &str| KeyId::parse(text).map_err(|_| unreadable("key id"));
    let revoked_at = row.optional_integer(7)?.map(UnixMillis);
    Ok(ApiKey {
        id: key_id(row.text(0)?)?,
        tenant_id: TenantId::parse(row.text(1)?).map_err(|_| unreadable("tenant id"))?,
        name: row.text(2)?.to_owned(),
        prefix_hint: row.text(3)?.to_owned(),
        scopes: scopes_of(row.text(4)?, revoked_at)?,
        created_at: UnixMillis(row.integer(5)?),
        expires_at: row.optional_integer(6)?.map(UnixMillis),
        revoked_at,
        revoke_reason: row.text(8)?.to_owned(),
        last_used_at: row.optional_integer(9)?.map(UnixMillis),
        replaced_by: row.optional_text(10)?.map(key_id).transpose()?,
        pepper_id: row.optional_text(11)?.map(str::to_owned),
    })
}
