//! The audit log copy: a file that preserves the audit log when the database is lost.

use std::{fs, path::Path};

use serde_json::Value;
use tempfile::TempDir;
use tenant_auth_svc::{
    config::{ServiceConfig, Settings},
    domain::clock::{ManualClock, SystemClock},
    server,
};
use tenant_auth_testkit::Fault;

use crate::harness::{NOW, TestDatabase, TestService, scrape::Scrape};

fn with_audit_file(settings: Settings, path: &Path) -> Settings {
    settings.with_flag("TENANT_AUTH_AUDIT_FILE", Some(path.display().to_string()))
}

async fn start_copying(database: &TestDatabase, path: &Path) -> TestService {
    TestService::start_with(with_audit_file(database.settings(), path), SystemClock::shared()).await
}

/// Returns the entries of the file in order: action and subject.
fn file_entries(path: &Path) -> Vec<(String, String)> {
    let entry = |line: &str| {
        let entry: Value = serde_json::from_str(line).unwrap();
        (entry["action"].as_str().unwrap().to_owned(), entry["target"].as_str().unwrap().to_owned())
    };
    fs::read_to_string(path).unwrap().lines().map(entry).collect()
}

fn file_actions(path: &Path) -> Vec<String> {
    file_entries(path).into_iter().map(|(action, _)| action).collect()
}

fn temporary_folder() -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    (folder, path)
}

#[tokio::test]
async fn audit_file_has_each_entry_once_across_restarts_and_rotations() {
    let database = TestDatabase::test_server().await;
    let (folder, path) = temporary_folder();
    let service = start_copying(&database, &path).await;
    let tenant = service.create_tenant("Acme").await;
    let (_, key) = service.issue_key(&tenant, &[]).await;
    service.running.copy_audit_log().await.unwrap();
    service.running.copy_audit_log().await.unwrap();
    let expected = [("tenant.create".to_owned(), tenant.clone()), ("key.issue".to_owned(), key.clone())];
    assert_eq!(file_entries(&path), expected);

    // The last action is copied before the process ends.
    service.revoke_key(&key).await;
    service.running.stop().await;
    assert_eq!(file_actions(&path), ["tenant.create", "key.issue", "key.revoke"]);

    let rotated = folder.path().join("audit.jsonl.1");
    fs::rename(&path, &rotated).unwrap();
    let service = start_copying(&database, &path).await;
    service.running.copy_audit_log().await.unwrap();
    assert_eq!(file_actions(&path), [""; 0]);
    let (_, key) = service.issue_key(&tenant, &[]).await;
    service.running.copy_audit_log().await.unwrap();
    assert_eq!(file_entries(&path), [("key.issue".to_owned(), key.clone())]);
    // The log is also rotated while the service runs.
    fs::rename(&path, &rotated).unwrap();
    service.revoke_key(&key).await;
    service.running.copy_audit_log().await.unwrap();
    assert_eq!(file_entries(&path), [("key.revoke".to_owned(), key)]);
    // Another program truncates the file in place.
    fs::write(&path, "").unwrap();
    service.issue_key(&tenant, &[]).await;
    service.running.copy_audit_log().await.unwrap();
    assert_eq!(file_actions(&path), ["key.issue"]);
}

/// The log is longer than one page, and its first page has an entry that cannot be decoded.
#[tokio::test]
async fn long_audit_log_is_copied_in_pages_skipping_unreadable_rows() {
    let database = TestDatabase::test_server().await;
    let (_folder, path) = temporary_folder();
    let service = TestService::start(&database).await;
    database
        .server()
        .execute(
            "INSERT INTO audit_log (at, caller, action, target, tenant_id, request_id) \
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1201) \
             SELECT 1790000000000 + i, 'c', 'key.revoke', 'k' || i, 't', 'r' || i FROM n",
        )
        .unwrap();
    database.server().execute("UPDATE audit_log SET target = x'00ff' WHERE target = 'k7'").unwrap();
    service.running.stop().await;
    let service = start_copying(&database, &path).await;
    service.running.copy_audit_log().await.unwrap();
    let copied = file_entries(&path);
    assert_eq!(copied.len(), 1_200);
    assert_eq!((&*copied[0].1, &*copied[6].1, &*copied[1_199].1), ("k1", "k8", "k1201"));
    Scrape::collect(&service).await.assert_value("tenant_auth_audit_entries_copied_total", 1_200.0);
}

#[tokio::test]
async fn audit_copy_counts_outage_and_catches_up_afterwards() {
    let (database, clock) = (TestDatabase::test_server().await, ManualClock::at(NOW));
    let (_folder, path) = temporary_folder();
    database.follow_clock(&clock);
    let service = TestService::start_with(with_audit_file(database.settings(), &path), clock.clone()).await;
    let tenant = service.create_tenant("Acme").await;
    service.running.copy_audit_log().await.unwrap();
    let before = Scrape::collect(&service).await;
    before.assert_value("tenant_auth_audit_copy_complete_timestamp_seconds", NOW.0 as f64 / 1_000.0);
    service.issue_key(&tenant, &[]).await;

    database.server().faults().set(Fault::unauthorized());
    clock.advance(std::time::Duration::from_secs(60));
    let error = service.running.copy_audit_log().await.unwrap_err().to_string();
    assert!(error.contains("the audit log cannot be read"), "{error}");
    let during = Scrape::collect(&service).await;
    assert!(during.value("tenant_auth_audit_copy_failures_total") >= 1.0);
    during.assert_value("tenant_auth_audit_copy_complete_timestamp_seconds", NOW.0 as f64 / 1_000.0);
    assert_eq!(file_actions(&path), ["tenant.create"]);

    database.server().faults().clear();
    service.running.copy_audit_log().await.unwrap();
    assert_eq!(file_actions(&path), ["tenant.create", "key.issue"]);
    let after = Scrape::collect(&service).await;
    after.assert_value("tenant_auth_audit_copy_complete_timestamp_seconds", NOW.0 as f64 / 1_000.0 + 60.0);
}

/// A restored database reuses the positions of the entries that it lost. The file keeps those lost entries.
#[tokio::test]
async fn restored_audit_log_is_appended_after_lost_entries() {
    let database = TestDatabase::test_server().await;
    let (_folder, path) = temporary_folder();
    let service = start_copying(&database, &path).await;
    let tenant = service.create_tenant("Acme").await;
    let (_, lost) = service.issue_key(&tenant, &[]).await;
    service.running.copy_audit_log().await.unwrap();

    let server = database.server();
    server.execute("DELETE FROM audit_log WHERE seq > 1").unwrap();
    server.execute("UPDATE sqlite_sequence SET seq = 1 WHERE name = 'audit_log'").unwrap();
    let (_, new) = service.issue_key(&tenant, &[]).await;
    let (_, newer) = service.issue_key(&tenant, &[]).await;
    service.running.copy_audit_log().await.unwrap();
    let targets: Vec<_> = file_entries(&path).into_iter().map(|(_, target)| target).collect();
    assert_eq!(targets, [&tenant, &lost, &tenant, &new, &newer].map(Clone::clone));
}

/// Entries of a distrusted database were not made in the known database, so they are not copied.
#[tokio::test]
async fn audit_copy_skips_distrusted_database() {
    let database = TestDatabase::test_server().await;
    let (_folder, path) = temporary_folder();
    let service = start_copying(&database, &path).await;
    service.create_tenant("Acme").await;
    service.running.feed().poll().await.unwrap();
    service.running.copy_audit_log().await.unwrap();
    database.server().execute("UPDATE database_identity SET id = 'another'").unwrap();
    service.running.feed().poll().await.unwrap_err();
    let error = service.running.copy_audit_log().await.unwrap_err().to_string();
    assert!(error.contains("not the one that this replica knows"), "{error}");
    assert_eq!(file_actions(&path), ["tenant.create"]);
}

#[tokio::test]
async fn one_replica_writes_shared_audit_file_and_other_takes_over() {
    let database = TestDatabase::test_server().await;
    let (_folder, path) = temporary_folder();
    let (first, second) = (start_copying(&database, &path).await, start_copying(&database, &path).await);
    let tenant = first.create_tenant("Acme").await;
    for service in [&first, &second, &first, &second] {
        service.running.copy_audit_log().await.unwrap();
    }
    assert_eq!(file_actions(&path), ["tenant.create"]);
    Scrape::collect(&second).await.assert_value("tenant_auth_audit_copy_complete_timestamp_seconds", 0.0);
    first.running.stop().await;
    second.issue_key(&tenant, &[]).await;
    second.running.copy_audit_log().await.unwrap();
    assert_eq!(file_actions(&path), ["tenant.create", "key.issue"]);
    assert!(Scrape::collect(&second).await.value("tenant_auth_audit_copy_complete_timestamp_seconds") > 0.0);
}

#[tokio::test]
async fn unwritable_audit_file_fails_start_and_names_variable() {
    let database = TestDatabase::embedded();
    let settings = with_audit_file(database.settings(), Path::new("/nowhere/audit.jsonl"));
    let (config, _) = ServiceConfig::read(settings).unwrap();
    let error = server::start(config, SystemClock::shared()).await.unwrap_err().to_string();
    for part in ["TENANT_AUTH_AUDIT_FILE", "/nowhere/audit.jsonl", "No such file"] {
        assert!(error.contains(part), "{error}");
    }
}
