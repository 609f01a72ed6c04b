//! Migrations 16 to 18 replace the tables without a rowid, while replicas of the version before them work.

use std::{collections::BTreeMap, sync::Arc};

use tenant_auth_svc::{
    database::{
        engine::{Engine as _, Row, SqlValue, Statement},
        migrate,
    },
    domain::{
        clock::{ManualClock, SharedClock},
        store::Lane,
    },
};
use tenant_auth_testkit::{Fault, HranaServer};

use crate::harness::{
    NOW, TestDatabase, backend, call,
    former_schema::{KilledEngine, apply_migrations, database_at},
};

/// The version before the tables are replaced.
const FORMER_VERSION: usize = 15;
/// A part of the statements of each page.
const PAGE: &str = "DELETE FROM schema_migrations WHERE version = 17";

/// The replaced tables and those that their triggers write: the columns, beginning with those of the key.
const TABLES: [(&str, &str, usize); 9] = [
    (
        "tenants",
        "id, name, plan, status, suspend_reason, created_at, updated_at, version, deletion_started_at, leak_policy",
        1,
    ),
    (
        "session_bindings",
        "session_id, tenant_id, key_id, created_at, expires_at, ttl, sliding, attributes, bind_id",
        1,
    ),
    ("session_counts", "tenant_id, sessions", 1),
    ("usage_events", "tenant_id, hour, metric, request, quantity", 4),
    ("usage_totals", "tenant_id, hour, metric, quantity", 3),
    ("pepper_checks", "pepper_id, hex(value)", 1),
    ("api_keys", "id, tenant_id, version", 1),
    ("limits", "scope, subject, name", 3),
    ("changes", "seq, kind, ref, tenant_id", 1),
];

/// The rows of each table, a line each.
type Contents = BTreeMap<&'static str, String>;

fn contents(server: &HranaServer) -> Contents {
    let read = |(table, columns, key): (&'static str, &str, usize)| {
        let order = columns.split(", ").take(key).collect::<Vec<_>>().join(", ");
        let lines = format!(
            "SELECT coalesce(group_concat(line, char(10)), '') \
             FROM (SELECT json_array({columns}) AS line FROM {table} ORDER BY {order})"
        );
        (table, server.query(&lines).unwrap()[0][0]["value"].as_str().unwrap().to_owned())
    };
    TABLES.into_iter().map(read).collect()
}

/// Fails with the first row that differs, and not with all rows.
fn assert_same(left: &Contents, right: &Contents, when: &str) {
    for (table, lines) in left {
        let other = &right[table];
        let differing = lines.lines().zip(other.lines()).find(|(left, right)| left != right);
        assert_eq!((lines.len(), differing), (other.len(), None), "{when}: {table}");
    }
}

/// A clock that stands still: a page takes no time, so that none is waited for.
fn clock() -> SharedClock {
    ManualClock::at(NOW)
}

/// Number of rows of a page.
const PAGE_ROWS: u32 = 1_000;

/// Fills all tables.
fn fill(server: &HranaServer, tenants: u32, usage_events: u32) {
    let series = |rows: u32| {
        format!("WITH RECURSIVE series (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < {rows})")
    };
    for statement in [
        format!(
            "{} INSERT INTO tenants (id, name, plan, created_at, updated_at) \
             SELECT 'ten_' || n, 'Customer ' || n, 'pro', n, n FROM series",
            series(tenants)
        ),
        "UPDATE tenants SET status = 'suspended' WHERE created_at % 7 = 0".to_owned(),
        format!(
            "{} INSERT INTO api_keys (key_hash, id, tenant_id, created_at) \
             SELECT unhex(printf('%064d', n)), 'key_' || n, 'ten_' || (n % {tenants} + 1), n FROM series",
            series(tenants + 1)
        ),
        format!(
            "{} INSERT INTO session_bindings (session_id, tenant_id, key_id, created_at, expires_at, ttl, sliding, bind_id) \
             SELECT 'session_' || n, 'ten_' || (n % 30 + 1), 'key_' || n, n, n, 1, n % 2, 'bind_' || n FROM series",
            series(tenants + 1)
        ),
        format!(
            "{} INSERT INTO usage_events (tenant_id, hour, metric, request, quantity) \
             SELECT 'ten_' || (n % {tenants} + 1), n % 24, 'calls', n - 500, n FROM series",
            series(usage_events)
        ),
        "INSERT INTO pepper_checks (pepper_id, value) VALUES ('p1', zeroblob(32)), ('', zeroblob(32))"
            .to_owned(),
    ] {
        server.execute(&statement).unwrap();
    }
}

/// What replicas of the former version write, and a person in a SQL shell, in the spelling of that version.
fn write_as_former_version(server: &HranaServer, step: usize) {
    let old = step * 3 + 1;
    for statement in [
        format!(
            "INSERT INTO tenants (id, name, plan, created_at, updated_at) VALUES ('new_{step}', 'New', 'pro', 1, 1) \
             ON CONFLICT (id) DO NOTHING"
        ),
        format!(
            "UPDATE tenants SET name = 'Name {step}', plan = 'max', updated_at = {step} WHERE id = 'ten_{old}'"
        ),
        format!("UPDATE tenants SET name = 'Name {step}' WHERE id = 'new_{step}'"),
        format!("UPDATE tenants SET status = 'suspended', suspend_reason = 'x' WHERE id = 'ten_{old}'"),
        format!("UPDATE tenants SET leak_policy = 'disable' WHERE id = 'ten_{old}'"),
        bind_session(&format!("bound_{step}"), &format!("new_{step}"), 7),
        // An existing session, which has expired, and one of another tenant, which is kept.
        bind_session(&format!("session_{}", 30 * step + 29), "ten_30", step),
        bind_session(&format!("session_{}", old + 1), "new_0", 7),
        format!("UPDATE session_bindings SET expires_at = expires_at + 9 WHERE session_id = 'session_{old}'"),
        format!(
            "UPDATE session_bindings SET tenant_id = 'new_{step}' WHERE session_id = 'session_{}'",
            old + 1
        ),
        format!("UPDATE session_bindings SET session_id = 'moved_{step}' WHERE session_id = 'bound_{step}'"),
        format!(
            "DELETE FROM session_bindings WHERE session_id IN \
             (SELECT session_id FROM session_bindings WHERE expires_at < {old} + 400 ORDER BY expires_at, session_id LIMIT 1)"
        ),
        format!(
            "INSERT INTO usage_events (tenant_id, hour, metric, request, quantity) \
             SELECT 'ten_' || value, 3, 'calls', {step} + 1000000, 1 FROM json_each('[1, 2, 39, 40]') WHERE true \
             ON CONFLICT (tenant_id, hour, metric, request) DO NOTHING"
        ),
        format!("UPDATE usage_totals SET quantity = quantity + 1 WHERE tenant_id = 'ten_{old}' AND hour = 4"),
        format!("DELETE FROM usage_events WHERE tenant_id = 'ten_{old}' AND request < 9000"),
        format!("DELETE FROM usage_totals WHERE tenant_id = 'ten_{}' AND hour = 5", old + 1),
        format!(
            "INSERT INTO tenants (id, name, created_at, updated_at) VALUES ('gone_{step}', 'Gone', 1, 1)"
        ),
        format!("DELETE FROM tenants WHERE id = 'gone_{step}'"),
        format!(
            "INSERT INTO pepper_checks (pepper_id, value) VALUES ('p{step}', zeroblob(32)) ON CONFLICT DO NOTHING"
        ),
    ] {
        server.execute(&statement).unwrap_or_else(|error| panic!("step {step}: {error}: {statement}"));
    }
    let named =
        "SELECT count(*) FROM tenants INDEXED BY tenants_by_name WHERE name >= 'Name' AND name < 'Namf'";
    assert_eq!(server.query(named).unwrap()[0][0]["value"], (2 * step + 2).to_string(), "step {step}");
}

/// Binds a session, in the words of the former version, with the time `at`.
fn bind_session(id: &str, tenant: &str, at: usize) -> String {
    format!(
        "INSERT INTO session_bindings \
           (session_id, tenant_id, key_id, created_at, expires_at, ttl, sliding, attributes, bind_id) \
         SELECT '{id}', '{tenant}', 'key', {at}, {at} + 500, 500, 1, '{{}}', 'b' \
         WHERE coalesce((SELECT sessions FROM session_counts WHERE tenant_id = '{tenant}'), 0) < 1000 \
            OR EXISTS (SELECT 1 FROM session_bindings WHERE session_id = '{id}') \
         ON CONFLICT (session_id) DO UPDATE SET \
            key_id = excluded.key_id, created_at = excluded.created_at, expires_at = excluded.expires_at, \
            ttl = excluded.ttl, sliding = excluded.sliding, attributes = excluded.attributes, bind_id = excluded.bind_id \
         WHERE session_bindings.tenant_id = excluded.tenant_id \
           AND (session_bindings.expires_at <= excluded.created_at \
                OR NOT EXISTS (SELECT 1 FROM api_keys WHERE api_keys.id = session_bindings.key_id \
                               AND api_keys.tenant_id = session_bindings.tenant_id AND api_keys.revoked_at IS NULL) \
                OR EXISTS (SELECT 1 FROM api_keys WHERE id = session_bindings.key_id AND disabled_at IS NOT NULL))"
    )
}

/// Objects of the schema by table, in the order of their creation, without the differences that renaming and adding columns leave
/// in the texts.
fn schema(database: &TestDatabase) -> BTreeMap<String, Vec<(String, String)>> {
    let sql = "SELECT tbl_name, type || ' ' || name, coalesce(sql, '') FROM sqlite_schema WHERE name <> 'sqlite_sequence' ORDER BY rowid";
    let mut objects = BTreeMap::<_, Vec<_>>::new();
    for row in database.server().query(sql).unwrap() {
        let text = |column: usize| row[column]["value"].as_str().unwrap().to_owned();
        let definition = text(2).to_lowercase().replace(|c: char| c.is_whitespace() || c == '"', "");
        objects.entry(text(0)).or_default().push((text(1), definition));
    }
    for list in objects.values_mut() {
        // The order of triggers is that in which they run. That of indexes has no effect.
        list.sort_by_key(
            |(name, _)| if name.starts_with("trigger") { "trigger".to_owned() } else { name.clone() },
        );
    }
    objects
}

#[tokio::test]
async fn schema_of_new_database_equals_that_of_migrated_one() {
    let new = TestDatabase::test_server().await;
    migrate::migrate(&backend(&new), &clock()).await.unwrap();
    let migrated = database_at(FORMER_VERSION).await;
    migrate::migrate(&backend(&migrated), &clock()).await.unwrap();
    let (new, migrated) = (schema(&new), schema(&migrated));
    assert_eq!(new.keys().collect::<Vec<_>>(), migrated.keys().collect::<Vec<_>>());
    for (table, objects) in &new {
        assert_eq!(objects, &migrated[table], "{table}");
    }
    assert!(new.values().flatten().all(|(_, definition)| !definition.contains("withoutrowid")));
}

#[tokio::test]
async fn migration_in_pages_keeps_contents_and_triggers() {
    let database = database_at(FORMER_VERSION).await;
    let server = database.server();
    fill(server, PAGE_ROWS, 100_000);
    let before = contents(server);
    migrate::migrate(&backend(&database), &clock()).await.unwrap();
    assert_same(&before, &contents(server), "after the migration");
    assert_eq!(server.requests_with(PAGE), 101, "each page starts with the last row of the page before it");

    let control = database_at(FORMER_VERSION).await;
    fill(control.server(), PAGE_ROWS, 100_000);
    for step in 0..3 {
        write_as_former_version(server, step);
        write_as_former_version(control.server(), step);
    }
    assert_same(&contents(control.server()), &contents(server), "after writes");
    for homeless in [
        "INSERT INTO usage_events VALUES ('nobody', 1, 'calls', 1, 1)",
        "INSERT INTO session_bindings VALUES ('s', 'nobody', 'k', 1, 1, 1, 1, '{}', 'b')",
        "INSERT INTO api_keys (key_hash, id, tenant_id, created_at) VALUES (randomblob(32), 'k', 'nobody', 1)",
        "DELETE FROM tenants WHERE id = 'ten_1'",
    ] {
        let refused = server.execute(homeless).unwrap_err();
        assert!(refused.contains("FOREIGN KEY"), "references are checked as before: {refused}: {homeless}");
    }
}

#[tokio::test]
async fn migration_resumes_after_kill_at_any_statement() {
    let (database, control) = (database_at(FORMER_VERSION).await, database_at(FORMER_VERSION).await);
    for filled in [&database, &control] {
        fill(filled.server(), 40, 1_500);
    }
    let engine = KilledEngine::new(backend(&database));
    let (mut kills, mut step) = (0, 0);
    let applied = 'migration: loop {
        for statements in 0.. {
            engine.kill_after(statements);
            let before = contents(database.server());
            match migrate::migrate(&engine, &clock()).await {
                Ok(applied) => break 'migration applied,
                Err(_) if engine.has_committed() => break,
                Err(killed) => assert!(killed.to_string().contains("killed"), "{killed}"),
            }
            kills += 1;
            assert_same(&before, &contents(database.server()), "after a kill");
        }
        // Replicas of the former version work on, whatever has been committed.
        for written in [&database, &control] {
            write_as_former_version(written.server(), step);
        }
        assert_same(&contents(control.server()), &contents(database.server()), "after writes between");
        step += 1;
    };
    assert!(
        !applied.is_empty() && kills > 80 && step == 3,
        "{applied:?}, {kills} kills, {step} transactions before the last"
    );
    for written in [&database, &control] {
        write_as_former_version(written.server(), step);
    }
    assert_same(&contents(control.server()), &contents(database.server()), "at the end");
}

#[tokio::test]
async fn migration_with_lost_responses_continues() {
    let database = database_at(FORMER_VERSION).await;
    fill(database.server(), 40, 2_500);
    let before = contents(database.server());
    let engine = backend(&database);
    let mut lost = 0;
    loop {
        database.server().faults().set_where("INSERT INTO schema_migrations", 1, Fault::ResetAfterCommit);
        match migrate::migrate(&engine, &clock()).await {
            Ok(_) => break,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
        lost += 1;
    }
    assert!(lost >= 5, "each transaction loses its response: {lost}");
    assert_same(&before, &contents(database.server()), "after the migration");
}

#[tokio::test]
async fn replicas_that_migrate_together_copy_each_row_once() {
    let database = database_at(FORMER_VERSION).await;
    fill(database.server(), PAGE_ROWS, 20_000);
    let before = contents(database.server());
    let engines: Vec<_> = (0..3).map(|_| Arc::new(backend(&database))).collect();
    let clock = clock();
    let runs = engines.iter().map(|engine| migrate::migrate(engine, &clock));
    let applied: usize =
        futures::future::join_all(runs).await.into_iter().map(|run| run.unwrap().len()).sum();
    assert_eq!(applied, 3, "each migration is applied by one of them");
    assert_same(&before, &contents(database.server()), "after the migration");
}

#[tokio::test]
async fn embedded_database_is_migrated_too() {
    let database = TestDatabase::embedded();
    let engine = backend(&database);
    apply_migrations(&engine, FORMER_VERSION).await;
    let insert = Statement::new(
        "INSERT INTO tenants (id, name, created_at, updated_at) SELECT 'ten_' || value, 'Name', 1, 1 FROM json_each('[1, 2, 3]')",
    );
    engine.transaction(call(Lane::Admin), vec![insert]).await.unwrap();
    migrate::migrate(&engine, &clock()).await.unwrap();
    let left = "SELECT (SELECT count(*) FROM tenants), (SELECT count(*) FROM changes), \
                (SELECT count(*) FROM sqlite_schema WHERE sql LIKE '%WITHOUT ROWID%')";
    let rows = engine.query(call(Lane::Admin), Statement::new(left)).await.unwrap();
    assert_eq!(rows, [Row(vec![SqlValue::Integer(3), SqlValue::Integer(3), SqlValue::Integer(0)])]);
}
