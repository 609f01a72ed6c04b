//! Schema migrations: two concurrent starts, a newer schema, an edited migration.

mod tables_with_rowid;

use tenant_auth_svc::{
    database::{
        engine::{Engine as _, Statement},
        migrate::{self, KNOWN_VERSION, SchemaError},
    },
    domain::{
        clock::{SharedClock, SystemClock},
        store::{FailureKind, Lane},
    },
    server::StartError,
};
use tenant_auth_testkit::Fault;

use crate::harness::{TestDatabase, TestService, call};

fn system_clock() -> SharedClock {
    SystemClock::shared()
}

#[tokio::test]
async fn concurrent_starts_migrate_once() {
    for _ in 0..10 {
        let database = TestDatabase::test_server().await;
        let clients: Vec<_> = (0..6).map(|_| database.client()).collect();
        let clock = system_clock();
        let runs = clients.iter().map(|database_client| migrate::migrate(database_client, &clock));
        let applied: usize =
            futures::future::join_all(runs).await.into_iter().map(|run| run.unwrap().len()).sum();
        assert_eq!(
            applied,
            usize::try_from(KNOWN_VERSION).unwrap(),
            "each migration is applied exactly once"
        );
    }
}

#[tokio::test]
async fn second_migration_changes_nothing() {
    for database in TestDatabase::all().await {
        let database_client = database.client();
        migrate::migrate(&database_client, &system_clock()).await.unwrap();
        assert!(migrate::migrate(&database_client, &system_clock()).await.unwrap().is_empty());
        migrate::verify(&database_client).await.unwrap();
    }
}

#[tokio::test]
async fn migration_with_lost_response_is_found_applied() {
    let database = TestDatabase::test_server().await;
    let database_client = database.client();
    database.server().faults().set_where("INSERT INTO schema_migrations", 1, Fault::ResetAfterCommit);
    let lost = migrate::migrate(&database_client, &system_clock()).await.unwrap_err();
    assert!(lost.is_transient(), "the startup retries: {lost}");
    migrate::migrate(&database_client, &system_clock()).await.unwrap();
    migrate::verify(&database_client).await.unwrap();
}

#[tokio::test]
async fn newer_schema_is_refused_by_migrate_and_start() {
    let database = TestDatabase::test_server().await;
    let database_client = database.client();
    migrate::migrate(&database_client, &system_clock()).await.unwrap();
    database.server().execute("INSERT INTO schema_migrations VALUES (99, 'later', 'x', 1)").unwrap();
    let refused = migrate::migrate(&database_client, &system_clock()).await.unwrap_err();
    assert!(matches!(refused, SchemaError::Newer { found: 99 }), "{refused}");
    assert!(refused.to_string().contains("newer tenant-auth"), "{refused}");

    let mut service = TestService::start_unready(database.settings(), system_clock()).await;
    assert!(matches!(service.running.wait_until_ready().await, Err(StartError::Schema(_))));
    assert!(matches!(service.running.wait_for_failure().await, StartError::Schema(_)), "the process exits");
}

#[tokio::test]
async fn edited_migration_is_refused() {
    let database = TestDatabase::test_server().await;
    let database_client = database.client();
    migrate::migrate(&database_client, &system_clock()).await.unwrap();
    database.server().execute("UPDATE schema_migrations SET checksum = 'other' WHERE version = 1").unwrap();
    let refused = migrate::verify(&database_client).await.unwrap_err();
    assert!(matches!(refused, SchemaError::Edited { version: 1 }), "{refused}");
}

#[tokio::test]
async fn missing_schema_error_says_how_to_fix_it() {
    let database = TestDatabase::test_server().await;
    let database_client = database.client();
    let refused = migrate::verify(&database_client).await.unwrap_err();
    assert!(refused.to_string().contains("tenant-auth-svc migrate"), "{refused}");
    let read = database_client.query(call(Lane::Maintenance), Statement::new("SELECT id FROM tenants")).await;
    assert_eq!(read.unwrap_err().kind, FailureKind::SchemaMissing);
}

/// A change by any writer, including a SQL shell, must be recorded in the change log.
#[tokio::test]
async fn every_verdict_relevant_change_enters_change_log() {
    let database = TestDatabase::test_server().await;
    migrate::migrate(&database.client(), &system_clock()).await.unwrap();
    let server = database.server();
    let seen = || server.query("SELECT kind, ref FROM changes ORDER BY seq").unwrap().len();
    let insert_key =
        "INSERT INTO api_keys (key_hash, id, tenant_id, created_at) VALUES (zeroblob(32), 'k', 't', 1)";
    for (statement, events) in [
        ("INSERT INTO tenants (id, name, created_at, updated_at) VALUES ('t', 'T', 1, 1)", 1),
        ("INSERT INTO tenants (id, name, created_at, updated_at) VALUES ('u', 'U', 1, 1)", 1),
        (insert_key, 1),
        ("UPDATE tenants SET status = 'suspended' WHERE id = 't'", 1),
        ("UPDATE tenants SET name = 'New' WHERE id = 't'", 1),
        ("UPDATE api_keys SET revoked_at = 5", 1),
        ("UPDATE api_keys SET scopes = '[\"a\"]'", 1),
        ("UPDATE api_keys SET expires_at = 7", 1),
        ("UPDATE api_keys SET tenant_id = 'u'", 2),
        ("UPDATE api_keys SET last_used_at = 9", 0),
        ("DELETE FROM api_keys", 1),
        ("DELETE FROM tenants WHERE id = 'u'", 1),
    ] {
        let before = seen();
        server.execute(statement).unwrap();
        assert_eq!(seen() - before, events, "{statement}");
    }
}
