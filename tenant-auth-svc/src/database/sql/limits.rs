//! Limits.
//!
//! A change of a limit is one transaction: an audit entry with the values before and after, then the change, both under the
//! same condition. The condition is false once the values are set, so a second run after a lost response changes nothing.

mod calendar;
mod credits;
mod effective;
mod record;
mod state;

pub(super) use self::calendar::credited_sql;
use self::record::{
    IS_COUNTER_OF_THIS, LIMIT_COLUMNS, audit_sql, bind_audit, only_row, read_limit, subject_exists_sql,
    values_json_sql,
};
use super::{
    Engine, RecordTable, SqlStore, UnreadableRecords,
    rows::{ListingReader, Records, listing_sql, single_row},
    transaction::{commit, last_rows},
};
use crate::{
    database::engine::{SqlValue, Statement},
    domain::{
        audit::AuditAction,
        id::{KeyId, TenantId},
        limit::{
            Limit, LimitCount, LimitName, LimitSubject, StoredRule,
            store::{CreditAdjustment, CreditOutcome, LimitCursor, LimitHolder, LimitStore, SetLimit},
        },
        page::{Page, PageRequest},
        store::{Call, Change, Committed, StoreError},
        text::Plan,
    },
};

/// Selects the limit with the scope `?1`, the subject `?2` and the name `?3`.
const IS_THIS_LIMIT: &str = "scope = ?1 AND subject = ?2 AND name = ?3";

/// The values of a limit, and their parameters when it is set.
const VALUES: &str =
    "metric, kind, amount, period_ms, burst, refill_amount, refill_every, max_balance, on_outage, shadow";
const NEW_VALUES: &str = "?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13";

impl<E: Engine> LimitStore for SqlStore<E> {
    async fn set_limit(
        &self,
        call: Call,
        limit: &Limit,
        expected_version: Option<i64>,
        change: &Change,
    ) -> Result<Committed<SetLimit>, StoreError> {
        let statements = set_statements(limit, expected_version, change);
        let Committed { outcome: results, revision } = commit(&self.engine, call, statements).await?;
        let rows = last_rows(results)?;
        let row = only_row(&rows)?;
        let subject_exists = row.integer(0)? == 1;
        let limit = row.optional_text(1)?.is_some().then(|| read_limit(row, 1)).transpose()?;
        Ok(Committed { outcome: SetLimit { subject_exists, limit }, revision })
    }

    async fn get_limit(
        &self,
        call: Call,
        subject: &LimitSubject,
        name: &LimitName,
    ) -> Result<Option<Limit>, StoreError> {
        let sql = format!("SELECT {LIMIT_COLUMNS} FROM (SELECT 1) LEFT JOIN limits ON {IS_THIS_LIMIT}");
        let rows = self.engine.query(call, of_limit(sql, subject, name)).await?;
        let Some(row) = single_row(&rows)? else { return Ok(None) };
        let read = self.unreadable_records.check(RecordTable::Limits, (row, 1), read_limit(row, 0))?;
        Ok(Some(read))
    }

    async fn list_limits(
        &self,
        call: Call,
        subject: Option<&LimitSubject>,
        page: &PageRequest<LimitCursor>,
    ) -> Result<Page<Limit, LimitCursor>, StoreError> {
        list(&self.engine, &self.unreadable_records, call, subject, page).await
    }

    async fn delete_limit(
        &self,
        call: Call,
        subject: &LimitSubject,
        name: &LimitName,
        change: &Change,
    ) -> Result<Committed<bool>, StoreError> {
        let statements = delete_statements(subject, name, change);
        let Committed { outcome: results, revision } = commit(&self.engine, call, statements).await?;
        let rows = last_rows(results)?;
        let row = only_row(&rows)?;
        Ok(Committed { outcome: row.integer(0)? == 1, revision })
    }

    async fn add_credits(
        &self,
        call: Call,
        adjustment: &CreditAdjustment,
        change: &Change,
    ) -> Result<Committed<CreditOutcome>, StoreError> {
        credits::add(&self.engine, call, adjustment, change).await
    }

    async fn limit_state(
        &self,
        call: Call,
        holder: &LimitHolder,
    ) -> Result<Option<Vec<(Limit, LimitCount)>>, StoreError> {
        state::read(&self.engine, &self.unreadable_records, call, holder).await
    }

    async fn effective_limits(
        &self,
        call: Call,
        tenant: &TenantId,
        plan: &Plan,
        key: &KeyId,
    ) -> Result<Vec<Limit>, StoreError> {
        effective::read(&self.engine, &self.unreadable_records, call, (tenant, plan, key)).await
    }
}

async fn list<E: Engine>(
    engine: &E,
    unreadable: &UnreadableRecords,
    call: Call,
    subject: Option<&LimitSubject>,
    page: &PageRequest<LimitCursor>,
) -> Result<Page<Limit, LimitCursor>, StoreError> {
    // In the order of the primary key.
    let condition = match subject {
        Some(_) => "scope = ?1 AND subject = ?2 AND name > ?3",
        None => "(scope, subject, name) > (?1, ?2, ?3)",
    };
    let from = format!("FROM limits WHERE {condition} ORDER BY scope, subject, name LIMIT ?4");
    let sql = listing_sql(LIMIT_COLUMNS, &from);
    let statement = |(scope, id, name): &(String, String, String), limit| {
        let texts = [scope, id, name].map(|text| SqlValue::from(text.as_str()));
        let statement = texts.into_iter().fold(Statement::new(sql.as_str()), Statement::bind);
        statement.bind(limit)
    };
    let limits = ListingReader {
        table: RecordTable::Limits,
        id_column: 1,
        records: Records::All,
        read_position: |row| Ok((row.text(0)?.to_owned(), row.text(1)?.to_owned(), row.text(2)?.to_owned())),
        read_record: |row| read_limit(row, 0),
        cursor_of: |limit| LimitCursor { subject: limit.subject.clone(), name: limit.name.clone() },
    };
    let position = |subject: &LimitSubject, name: &str| {
        (subject.scope().to_owned(), subject.id().to_owned(), name.to_owned())
    };
    let start = subject.map(|subject| position(subject, ""));
    let after = page.after.as_ref().map(|after| position(&after.subject, after.name.as_str()));
    limits
        .read_page((engine, unreadable, call), page.size, after.or(start).unwrap_or_default(), statement)
        .await
}

/// `?1` to `?3` identify the limit, `?4` to `?13` are its values, and `?14` is the expected version.
fn set_statements(limit: &Limit, expected_version: Option<i64>, change: &Change) -> Vec<Statement> {
    let rule = StoredRule::of(&limit.rule);
    let values: [SqlValue; 10] = [
        limit.metric.as_str().into(),
        rule.kind.as_str().into(),
        rule.amount.into(),
        rule.period_ms.into(),
        rule.burst.into(),
        rule.refill_amount.into(),
        rule.refill_every.as_str().into(),
        rule.max_balance.into(),
        limit.on_outage.as_str().into(),
        i64::from(limit.shadow).into(),
    ];
    let bound = |sql: String| {
        let statement = of_limit(sql, &limit.subject, &limit.name);
        values.iter().cloned().fold(statement, Statement::bind).bind(expected_version)
    };
    let exists = subject_exists_sql(&limit.subject);
    let condition = format!(
        "{exists} AND (?14 IS NULL OR coalesce((SELECT version FROM limits WHERE {IS_THIS_LIMIT}), 0) = ?14) \
         AND NOT EXISTS (SELECT 1 FROM limits WHERE {IS_THIS_LIMIT} AND ({VALUES}) IS ({NEW_VALUES}))"
    );
    let detail = format!(
        "json_object('limit', ?3, 'before', json((SELECT {} FROM limits WHERE {IS_THIS_LIMIT})), 'after', json({}))",
        values_json_sql(VALUES),
        values_json_sql(NEW_VALUES),
    );
    let audit = bound(audit_sql(15, &detail, &condition));
    let upsert = format!(
        "INSERT INTO limits (scope, subject, name, {VALUES}, version, updated_at) \
         SELECT ?1, ?2, ?3, {NEW_VALUES}, (SELECT coalesce(max(seq), 0) + 1 FROM changes), {} WHERE {condition} \
         ON CONFLICT (scope, subject, name) DO UPDATE SET ({VALUES}, version, updated_at) = \
            (excluded.metric, excluded.kind, excluded.amount, excluded.period_ms, excluded.burst, excluded.refill_amount, \
             excluded.refill_every, excluded.max_balance, excluded.on_outage, excluded.shadow, excluded.version, \
             excluded.updated_at)",
        now!(),
    );
    // What was counted under another kind. Counters of a plan's tenants stay until they are swept: they could be many.
    let condition = format!("AND kind <> (SELECT kind FROM limits WHERE {IS_THIS_LIMIT})");
    let [forget_leases, forget_counters] = forget_statements(&condition);
    let outcome =
        format!("SELECT {exists}, {LIMIT_COLUMNS} FROM (SELECT 1) LEFT JOIN limits ON {IS_THIS_LIMIT}");
    vec![
        bind_audit(audit, &limit.subject, AuditAction::LimitSet, change),
        bound(upsert),
        of_limit(forget_leases, &limit.subject, &limit.name),
        of_limit(forget_counters, &limit.subject, &limit.name),
        of_limit(outcome, &limit.subject, &limit.name),
    ]
}

fn delete_statements(subject: &LimitSubject, name: &LimitName, change: &Change) -> Vec<Statement> {
    let exists = format!("EXISTS (SELECT 1 FROM limits WHERE {IS_THIS_LIMIT})");
    let detail = format!(
        "json_object('limit', ?3, 'before', json((SELECT {} FROM limits WHERE {IS_THIS_LIMIT})))",
        values_json_sql(VALUES),
    );
    let audit = of_limit(audit_sql(4, &detail, &exists), subject, name);
    // Of one tenant or key. A plan may have any number of tenants, so their counters stay until they are swept. Only if the
    // limit exists: otherwise the counters are those of the limit that it would replace.
    let [forget_leases, forget_counters] = forget_statements(&format!("AND {exists}"));
    let delete = format!("DELETE FROM limits WHERE {IS_THIS_LIMIT}");
    // By the audit entry: a repeated run must find that the first one deleted the limit.
    let by_this_change = "SELECT EXISTS (SELECT 1 FROM audit_log WHERE at = ?4 AND caller = ?5 AND action = ?6 AND target = ?7 \
                                           AND request_id = ?8 AND detail ->> '$.limit' = ?3)";
    let by_this_change = of_limit(by_this_change.to_owned(), subject, name);
    vec![
        bind_audit(audit, subject, AuditAction::LimitDelete, change),
        of_limit(forget_leases, subject, name),
        of_limit(forget_counters, subject, name),
        of_limit(delete, subject, name),
        bind_audit(by_this_change, subject, AuditAction::LimitDelete, change),
    ]
}

/// Forgets what is counted of a limit. The leases first: what a replica held of a counter must not be given back to a new one.
fn forget_statements(condition: &str) -> [String; 2] {
    // The key of the table begins with the holder: holder by holder, no other lease is read.
    let of_each_holder = "holder IN (WITH RECURSIVE holders (id) AS (SELECT min(holder) FROM limit_leases UNION ALL \
         SELECT (SELECT min(holder) FROM limit_leases WHERE holder > holders.id) FROM holders WHERE id IS NOT NULL) \
         SELECT id FROM holders)";
    [("limit_leases", of_each_holder), ("limit_counters", "TRUE")].map(|(table, range)| {
        format!("DELETE FROM {table} WHERE {range} AND {IS_COUNTER_OF_THIS} {condition}")
    })
}

fn of_limit(sql: String, subject: &LimitSubject, name: &LimitName) -> Statement {
    Statement::new(sql).bind(subject.scope()).bind(subject.id()).bind(name.as_str())
}
