//! The rows of limits, and the audit entries about them.

use crate::{
    database::{
        engine::{Row, Statement},
        sql::rows::unreadable_value,
    },
    domain::{
        audit::AuditAction,
        clock::UnixMillis,
        limit::{Limit, LimitName, LimitSubject, OutagePolicy, StoredRule},
        store::{Change, FailureKind, StoreError},
        usage::UsageMetric,
    },
};

pub(super) const LIMIT_COLUMNS: &str = "scope, subject, name, metric, kind, amount, period_ms, burst, refill_amount, refill_every, \
     max_balance, on_outage, shadow, version, updated_at";

/// Selects what is counted of the limit with the scope `?1`, the subject `?2` and the name `?3`: of one tenant or key, and
/// nothing for a plan.
pub(super) const IS_COUNTER_OF_THIS: &str = "tenant_id = CASE ?1 WHEN 'tenant' THEN ?2 \
        WHEN 'key' THEN (SELECT api_keys.tenant_id FROM api_keys WHERE api_keys.id = ?2) END \
     AND key_id = iif(?1 = 'key', ?2, '') AND name = ?3";

/// Whether the subject `?2` exists. A plan is only a name.
pub(super) fn subject_exists_sql(subject: &LimitSubject) -> &'static str {
    match subject {
        LimitSubject::Plan(_) => "TRUE",
        LimitSubject::Tenant(_) => "EXISTS (SELECT 1 FROM tenants WHERE id = ?2)",
        LimitSubject::Key(_) => "EXISTS (SELECT 1 FROM api_keys WHERE id = ?2)",
    }
}

/// Returns the values of a limit as a JSON object, without those that a kind of limit does not have. Takes the SQL of each
/// value, in the order of the columns.
pub(super) fn values_json_sql(values: &str) -> String {
    const NAMES: [&str; 10] = [
        "metric",
        "kind",
        "amount",
        "period_ms",
        "burst",
        "refill_amount",
        "refill_every",
        "max_balance",
        "on_outage",
        "shadow",
    ];
    let member = |(name, value): (&str, &str)| match name {
        "period_ms" | "burst" | "refill_amount" | "max_balance" => format!("'{name}', nullif({value}, 0)"),
        "refill_every" => format!("'{name}', nullif({value}, '')"),
        "shadow" => format!("'{name}', json(iif({value}, 'true', 'false'))"),
        _ => format!("'{name}', {value}"),
    };
    let members: Vec<_> = NAMES.into_iter().zip(values.split(", ")).map(member).collect();
    format!("json_object({})", members.join(", "))
}

/// Returns an audit entry about a limit, with parameters from `?next` on for [`bind_audit`]; `?1` and `?2` are the scope and
/// the subject. Absent members of the detail are left out.
pub(super) fn audit_sql(next: usize, detail: &str, condition: &str) -> String {
    let [caller, action, target, request] = [1, 2, 3, 4].map(|offset| next + offset);
    format!(
        "INSERT INTO audit_log (at, caller, action, target, tenant_id, request_id, detail) \
         SELECT ?{next}, ?{caller}, ?{action}, ?{target}, CASE ?1 WHEN 'tenant' THEN ?2 \
            WHEN 'key' THEN coalesce((SELECT tenant_id FROM api_keys WHERE id = ?2), '') ELSE '' END, \
            ?{request}, json_patch('{{}}', {detail}) WHERE {condition}"
    )
}

pub(super) fn bind_audit(
    statement: Statement,
    subject: &LimitSubject,
    action: AuditAction,
    change: &Change,
) -> Statement {
    let target = match subject {
        // A plan may have the name of a tenant.
        LimitSubject::Plan(plan) => format!("plan:{plan}"),
        subject => subject.id().to_owned(),
    };
    statement
        .bind(change.at.0)
        .bind(change.actor.caller.as_str())
        .bind(action.as_str())
        .bind(target)
        .bind(change.actor.request_id.as_str())
}

/// Reads a limit from a row with [`LIMIT_COLUMNS`] from a column on.
pub(super) fn read_limit(row: &Row, first: usize) -> Result<Limit, StoreError> {
    let text = |column: usize| row.text(first + column);
    let integer = |column: usize| row.integer(first + column);
    let rule = StoredRule {
        kind: text(4)?.to_owned(),
        amount: integer(5)?,
        period_ms: integer(6)?,
        burst: integer(7)?,
        refill_amount: integer(8)?,
        refill_every: text(9)?.to_owned(),
        max_balance: integer(10)?,
    };
    Ok(Limit {
        subject: LimitSubject::from_stored(text(0)?, text(1)?).ok_or_else(|| unreadable_value("subject"))?,
        name: LimitName::parse(text(2)?).map_err(|_| unreadable_value("name of a limit"))?,
        metric: UsageMetric::parse(text(3)?).map_err(|_| unreadable_value("metric"))?,
        rule: rule.rule().ok_or_else(|| unreadable_value("rule of a limit"))?,
        on_outage: OutagePolicy::parse(text(11)?).ok_or_else(|| unreadable_value("outage policy"))?,
        shadow: integer(12)? != 0,
        version: integer(13)?,
        updated_at: UnixMillis(integer(14)?),
    })
}

/// Returns the row of a statement that returns exactly one.
pub(super) fn only_row(rows: &[Row]) -> Result<&Row, StoreError> {
    rows.first().ok_or_else(|| {
        StoreError::new(FailureKind::InvalidResponse, "a change of a limit returned too few results")
    })
}
