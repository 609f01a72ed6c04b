//! Changes of single values of tenants and keys.
//!
//! One transaction: an audit entry with the values before and after, then the update, both under the same condition. The
//! condition is false once the values are set, so a second run after a lost response changes nothing.

use serde_json::{Map, Value};

use super::{
    Engine,
    keys::{select_key, single_key},
    lookup::to_json,
    tenants::{select_tenant, single_tenant},
    transaction::{commit, last_rows},
    write::{networks_json, scopes_json},
};
use crate::{
    database::engine::{Row, SqlValue, Statement},
    domain::{
        audit::AuditAction,
        id::{KeyId, TenantId},
        key::{ApiKey, KeyUpdate},
        store::{Call, Change, Committed, StoreError, UpdateConditions},
        tenant::{Tenant, TenantUpdate},
        text::Reason,
    },
};

/// A table whose rows can be updated.
struct Updatable {
    table: &'static str,
    tenant_column: &'static str,
    /// Must also hold for a row to be updated.
    condition: &'static str,
    action: AuditAction,
}

const TENANTS: Updatable =
    Updatable { table: "tenants", tenant_column: "id", condition: "TRUE", action: AuditAction::TenantUpdate };

const KEYS: Updatable = Updatable {
    table: "api_keys",
    tenant_column: "tenant_id",
    condition: "revoked_at IS NULL",
    action: AuditAction::KeyUpdate,
};

/// A value to set. In the SQL, `?` stands for the parameter.
struct Assignment {
    /// The name in the audit entry.
    name: &'static str,
    /// The stored value as JSON.
    before: &'static str,
    /// The new value as JSON.
    after: Value,
    parameter: SqlValue,
    set: &'static str,
    /// Whether the stored value differs.
    differs: &'static str,
}

pub(super) async fn tenant<E: Engine>(
    engine: &E,
    call: Call,
    id: &TenantId,
    update: &TenantUpdate,
    conditions: &UpdateConditions,
    change: &Change,
) -> Result<Committed<Option<Tenant>>, StoreError> {
    let name = update.name.as_ref().map(|name| Assignment {
        name: "name",
        before: "name",
        after: name.as_str().into(),
        parameter: name.as_str().into(),
        set: "name = ?",
        differs: "name IS NOT ?",
    });
    let plan = update.plan.as_ref().map(|plan| Assignment {
        name: "plan",
        before: "plan",
        after: plan.as_str().into(),
        parameter: plan.as_str().into(),
        set: "plan = ?",
        differs: "plan IS NOT ?",
    });
    let leak_policy = update.leak_policy.map(|policy| {
        let stored = policy.map(|policy| policy.to_string());
        Assignment {
            name: "leak_policy",
            before: "leak_policy",
            after: stored.clone().into(),
            parameter: stored.into(),
            set: "leak_policy = ?",
            differs: "leak_policy IS NOT ?",
        }
    });
    let updated_at = Assignment {
        name: "",
        before: "",
        after: Value::Null,
        parameter: change.at.0.into(),
        set: "updated_at = ?",
        differs: "FALSE",
    };
    let assignments = name.into_iter().chain(plan).chain(leak_policy).chain([updated_at]).collect();
    let statements = update_statements(&TENANTS, id.as_str(), assignments, conditions, change)?;
    run(engine, call, statements, select_tenant(id), single_tenant).await
}

pub(super) async fn key<E: Engine>(
    engine: &E,
    call: Call,
    id: &KeyId,
    update: &KeyUpdate,
    conditions: &UpdateConditions,
    change: &Change,
) -> Result<Committed<Option<ApiKey>>, StoreError> {
    let name = update.name.as_ref().map(|name| Assignment {
        name: "name",
        before: "name",
        after: name.as_str().into(),
        parameter: name.as_str().into(),
        set: "name = ?",
        differs: "name IS NOT ?",
    });
    let scopes = update.scopes.as_ref().map(|scopes| {
        Ok::<_, StoreError>(Assignment {
            name: "scopes",
            before: "json(scopes)",
            after: scopes.iter().map(Value::from).collect(),
            parameter: scopes_json(scopes)?.into(),
            set: "scopes = ?",
            differs: "scopes IS NOT ?",
        })
    });
    let expires_at = update.expires_at.map(|expires_at| Assignment {
        name: "expires_at",
        before: "expires_at",
        after: expires_at.map(|at| at.0).into(),
        parameter: expires_at.map(|at| at.0).into(),
        set: "expires_at = ?",
        differs: "expires_at IS NOT ?",
    });
    let enabled = update.enabled.map(|enabled| Assignment {
        name: "enabled",
        before: "json(iif(disabled_at IS NULL, 'true', 'false'))",
        after: enabled.into(),
        // The time at which it is disabled.
        parameter: (!enabled).then_some(change.at.0).into(),
        set: "disabled_at = ?",
        differs: "(disabled_at IS NULL) IS NOT (? IS NULL)",
    });
    let networks = update.allowed_networks.as_ref().map(|networks| {
        Ok::<_, StoreError>(Assignment {
            name: "allowed_networks",
            // Networks that cannot be read can be replaced.
            before: "iif(json_valid(allowed_networks), json(allowed_networks), allowed_networks)",
            after: networks.iter().map(|network| Value::from(network.to_string())).collect(),
            parameter: networks_json(networks)?.into(),
            set: "allowed_networks = ?",
            differs: "allowed_networks IS NOT ?",
        })
    });
    let (scopes, networks) = (scopes.transpose()?, networks.transpose()?);
    let assignments =
        name.into_iter().chain(scopes).chain(expires_at).chain(enabled).chain(networks).collect();
    let statements = update_statements(&KEYS, id.as_str(), assignments, conditions, change)?;
    run(engine, call, statements, select_key(id), single_key).await
}

async fn run<E: Engine, T>(
    engine: &E,
    call: Call,
    mut statements: Vec<Statement>,
    select: Statement,
    read: impl Fn(&[Row]) -> Result<Option<T>, StoreError>,
) -> Result<Committed<Option<T>>, StoreError> {
    statements.push(select);
    let Committed { outcome: results, revision } = commit(engine, call, statements).await?;
    Ok(Committed { outcome: read(&last_rows(results)?)?, revision })
}

/// Returns the audit entry and the update. An assignment without a name is not recorded.
fn update_statements(
    updatable: &Updatable,
    id: &str,
    assignments: Vec<Assignment>,
    UpdateConditions { etag, reason }: &UpdateConditions,
    change: &Change,
) -> Result<Vec<Statement>, StoreError> {
    let Updatable { table, tenant_column, condition, action } = updatable;
    // ?1 is the id and ?2 the version; the assignments follow.
    let numbered = |sql: &str, index: usize| sql.replace('?', &format!("?{}", index + 3));
    let each = |sql: fn(&Assignment) -> &'static str| {
        let numbered = |(index, assignment)| numbered(sql(assignment), index);
        assignments.iter().enumerate().map(numbered).collect::<Vec<_>>()
    };
    let (set, differs) = (each(|each| each.set).join(", "), each(|each| each.differs).join(" OR "));
    let condition = format!("id = ?1 AND (?2 IS NULL OR version = ?2) AND {condition} AND ({differs})");
    let recorded = || assignments.iter().filter(|assignment| !assignment.name.is_empty());
    let before: Vec<_> =
        recorded().map(|assignment| format!("'{}', {}", assignment.name, assignment.before)).collect();
    let after: Map<_, _> =
        recorded().map(|assignment| (assignment.name.to_owned(), assignment.after.clone())).collect();
    let next = assignments.len() + 3;
    let audit = format!(
        "INSERT INTO audit_log (at, caller, action, target, tenant_id, request_id, detail) \
         SELECT ?{next}, ?{}, ?{}, ?1, {tenant_column}, ?{}, \
                json_patch(json_object('before', json_object({}), 'after', json(?{})), ?{}) \
         FROM {table} WHERE {condition}",
        next + 1,
        next + 2,
        next + 3,
        before.join(", "),
        next + 4,
        next + 5,
    );
    let reason = reason
        .as_ref()
        .map(Reason::as_str)
        .map_or_else(Map::new, |reason| Map::from_iter([("reason".to_owned(), reason.into())]));
    let bind_condition = |sql: String| {
        let statement = Statement::new(sql).bind(id).bind(etag.map(|etag| etag.version()));
        assignments.iter().fold(statement, |statement, each| statement.bind(each.parameter.clone()))
    };
    let audit = bind_condition(audit)
        .bind(change.at.0)
        .bind(change.actor.caller.as_str())
        .bind(action.as_str())
        .bind(change.actor.request_id.as_str())
        .bind(to_json(&after)?)
        .bind(to_json(&reason)?);
    let update = bind_condition(format!("UPDATE {table} SET {set} WHERE {condition}"));
    Ok(vec![audit, update])
}
