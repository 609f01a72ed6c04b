//! The audit log is copied to a file, which is what is left of it when the database is lost.

use std::{fs, path::Path};

use serde_json::Value;
use tempfile::TempDir;
use tenant_auth_svc::{
    config::{ServiceConfig, Settings},
    domain::clock::{ManualClock, SystemClock},
    server,
};
use tenant_auth_testkit::Fault;

use crate::{
    harness::{Database, NOW, Service},
    scrape::Scrape,
};

fn copying(settings: Settings, path: &Path) -> Settings {
    settings.with_flag("TENANT_AUTH_AUDIT_FILE", Some(path.display().to_string()))
}

async fn start(database: &Database, path: &Path) -> Service {
    Service::start_with(copying(database.settings(), path), SystemClock::shared()).await
}

/// The entries of the file, in its order: what was done, and to what.
fn entries(path: &Path) -> Vec<(String, String)> {
    let entry = |line: &str| {
        let entry: Value = serde_json::from_str(line).unwrap();
        (entry["action"].as_str().unwrap().to_owned(), entry["target"].as_str().unwrap().to_owned())
    };
    fs::read_to_string(path).unwrap().lines().map(entry).collect()
}

fn actions(path: &Path) -> Vec<String> {
    entries(path).into_iter().map(|(action, _)| action).collect()
}

fn folder() -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    (folder, path)
}

#[tokio::test]
async fn every_entry_is_in_the_file_once_through_restarts_and_rotations() {
    let database = Database::test_server().await;
    let (folder, path) = folder();
    let service = start(&database, &path).await;
    let tenant = service.tenant("Acme").await;
    let (_, key) = service.key(&tenant, &[]).await;
    service.running.copy_audit_log().await.unwrap();
    service.running.copy_audit_log().await.unwrap();
    let expected = [("tenant.create".to_owned(), tenant.clone()), ("key.issue".to_owned(), key.clone())];
    assert_eq!(entries(&path), expected);

    // What was done last is copied before the process ends.
    service.revoke(&key).await;
    service.running.stop().await;
    assert_eq!(actions(&path), ["tenant.create", "key.issue", "key.revoke"]);

    let rotated = folder.path().join("audit.jsonl.1");
    fs::rename(&path, &rotated).unwrap();
    let service = start(&database, &path).await;
    service.running.copy_audit_log().await.unwrap();
    assert_eq!(actions(&path), [""; 0]);
    let (_, key) = service.key(&tenant, &[]).await;
    service.running.copy_audit_log().await.unwrap();
    assert_eq!(entries(&path), [("key.issue".to_owned(), key.clone())]);
    // … and while it runs.
    fs::rename(&path, &rotated).unwrap();
    service.revoke(&key).await;
    service.running.copy_audit_log().await.unwrap();
    assert_eq!(entries(&path), [("key.revoke".to_owned(), key)]);
    // Cut by another program, which keeps the file where it is.
    fs::write(&path, "").unwrap();
    service.key(&tenant, &[]).await;
    service.running.copy_audit_log().await.unwrap();
    assert_eq!(actions(&path), ["key.issue"]);
}

/// More than a page, of which the first has an entry that nobody can read.
#[tokio::test]
async fn a_long_log_is_copied_page_by_page_without_what_cannot_be_read() {
    let database = Database::test_server().await;
    let (_folder, path) = folder();
    let service = Service::start(&database).await;
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
    let service = start(&database, &path).await;
    service.running.copy_audit_log().await.unwrap();
    let copied = entries(&path);
    assert_eq!(copied.len(), 1_200);
    assert_eq!((&*copied[0].1, &*copied[6].1, &*copied[1_199].1), ("k1", "k8", "k1201"));
    Scrape::of(&service).await.is("tenant_auth_audit_copied_total", 1_200.0);
}

#[tokio::test]
async fn an_outage_is_counted_and_what_is_missing_comes_afterwards() {
    let (database, clock) = (Database::test_server().await, ManualClock::at(NOW));
    let (_folder, path) = folder();
    database.follow(&clock);
    let service = Service::start_with(copying(database.settings(), &path), clock.clone()).await;
    let tenant = service.tenant("Acme").await;
    service.running.copy_audit_log().await.unwrap();
    let before = Scrape::of(&service).await;
    before.is("tenant_auth_audit_copy_complete_timestamp_seconds", NOW.0 as f64 / 1_000.0);
    service.key(&tenant, &[]).await;

    database.server().faults().set(Fault::unauthorized());
    clock.advance(std::time::Duration::from_secs(60));
    let error = service.running.copy_audit_log().await.unwrap_err().to_string();
    assert!(error.contains("the audit log cannot be read"), "{error}");
    let during = Scrape::of(&service).await;
    assert!(during.number("tenant_auth_audit_copy_failures_total") >= 1.0);
    during.is("tenant_auth_audit_copy_complete_timestamp_seconds", NOW.0 as f64 / 1_000.0);
    assert_eq!(actions(&path), ["tenant.create"]);

    database.server().faults().clear();
    service.running.copy_audit_log().await.unwrap();
    assert_eq!(actions(&path), ["tenant.create", "key.issue"]);
    let after = Scrape::of(&service).await;
    after.is("tenant_auth_audit_copy_complete_timestamp_seconds", NOW.0 as f64 / 1_000.0 + 60.0);
}

/// A restored database gives the places of entries that it lacks to others. Nothing of what it lost is lost in the file.
#[tokio::test]
async fn after_a_restore_the_log_is_copied_again_behind_what_was_lost() {
    let database = Database::test_server().await;
    let (_folder, path) = folder();
    let service = start(&database, &path).await;
    let tenant = service.tenant("Acme").await;
    let (_, lost) = service.key(&tenant, &[]).await;
    service.running.copy_audit_log().await.unwrap();

    let server = database.server();
    server.execute("DELETE FROM audit_log WHERE seq > 1").unwrap();
    server.execute("UPDATE sqlite_sequence SET seq = 1 WHERE name = 'audit_log'").unwrap();
    let (_, new) = service.key(&tenant, &[]).await;
    let (_, newer) = service.key(&tenant, &[]).await;
    service.running.copy_audit_log().await.unwrap();
    let targets: Vec<_> = entries(&path).into_iter().map(|(_, target)| target).collect();
    assert_eq!(targets, [&tenant, &lost, &tenant, &new, &newer].map(Clone::clone));
}

/// What a database says that is not believed was not done in the one that is known.
#[tokio::test]
async fn nothing_is_copied_from_a_database_that_is_not_believed() {
    let database = Database::test_server().await;
    let (_folder, path) = folder();
    let service = start(&database, &path).await;
    service.tenant("Acme").await;
    service.running.feed().poll().await.unwrap();
    service.running.copy_audit_log().await.unwrap();
    database.server().execute("UPDATE database_identity SET id = 'another'").unwrap();
    service.running.feed().poll().await.unwrap_err();
    let error = service.running.copy_audit_log().await.unwrap_err().to_string();
    assert!(error.contains("not the one that this replica knows"), "{error}");
    assert_eq!(actions(&path), ["tenant.create"]);
}

#[tokio::test]
async fn of_two_replicas_with_one_file_one_writes_it_and_the_other_takes_over() {
    let database = Database::test_server().await;
    let (_folder, path) = folder();
    let (first, second) = (start(&database, &path).await, start(&database, &path).await);
    let tenant = first.tenant("Acme").await;
    for service in [&first, &second, &first, &second] {
        service.running.copy_audit_log().await.unwrap();
    }
    assert_eq!(actions(&path), ["tenant.create"]);
    Scrape::of(&second).await.is("tenant_auth_audit_copy_complete_timestamp_seconds", 0.0);
    first.running.stop().await;
    second.key(&tenant, &[]).await;
    second.running.copy_audit_log().await.unwrap();
    assert_eq!(actions(&path), ["tenant.create", "key.issue"]);
    assert!(Scrape::of(&second).await.number("tenant_auth_audit_copy_complete_timestamp_seconds") > 0.0);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_an_error_of_the_start_and_names_its_variable() {
    let database = Database::embedded();
    let settings = copying(database.settings(), Path::new("/nowhere/audit.jsonl"));
    let (config, _) = ServiceConfig::read(settings).unwrap();
    let error = server::start(config, SystemClock::shared()).await.unwrap_err().to_string();
    for part in ["TENANT_AUTH_AUDIT_FILE", "/nowhere/audit.jsonl", "No such file"] {
        assert!(error.contains(part), "{error}");
    }
}
