//! Replays the audit log copy after a database was restored from a backup.

use std::{fs, path::Path};

use serde_json::Value;
use tenant_auth_testkit::HranaServer;
use tokio::runtime::Runtime;

use crate::harness::{Service, denied, valid};

/// Starts a replica on the current database, with an audit log copy in the folder.
fn start(server: &HranaServer, folder: &Path) -> Service {
    let token = folder.join("token");
    fs::write(&token, "token\n").unwrap();
    let copy = folder.join("audit.jsonl").display().to_string();
    Service::start_with("http://", |settings| {
        settings
            .with_flag("TENANT_AUTH_DATABASE_URL", Some(server.url()))
            .with_flag("TENANT_AUTH_DATABASE_TOKEN_FILE", Some(token.display().to_string()))
            .with_flag("TENANT_AUTH_HEARTBEAT_INTERVAL", Some("off".to_owned()))
            .with_flag("TENANT_AUTH_AUDIT_FILE", Some(copy))
    })
}

#[test]
fn replay_restores_changes_from_file_or_saved_list() {
    let (runtime, folder) = (Runtime::new().unwrap(), tempfile::tempdir().unwrap());
    let server = runtime.block_on(HranaServer::builder().token("token").start()).unwrap();
    let path = folder.path();
    let service = start(&server, path);
    for tenant in ["acme", "beta"] {
        service.tenant(tenant);
    }
    let (leaked, good, suspended) = (service.key("acme"), service.key("acme"), service.key("beta"));
    let id = |service: &Service, key: &str| service.run(&["validate", "--json"], key).stdout;
    let leaked_id = serde_json::from_str::<Value>(&id(&service, &leaked)).unwrap()["key_id"].clone();
    let leaked_id = leaked_id.as_str().unwrap().to_owned();
    let moment = service.json(&["info"])["now"].as_str().unwrap().to_owned();
    drop(service);
    let backup = server.backup().unwrap();

    let service = start(&server, path);
    service.json(&["key", "revoke", &leaked_id, "--reason", "leaked"]);
    service.json(&["tenant", "suspend", "acme", "--reason", "a mistake"]);
    service.json(&["tenant", "resume", "acme"]);
    service.json(&["tenant", "suspend", "beta", "--reason", "unpaid"]);
    let newer = service.key("acme");
    let list = path.join("audit-before-restore.json");
    fs::write(&list, service.run(&["--json", "audit", "list", "--all"], "").stdout).unwrap();
    drop(service);

    for file in [path.join("audit.jsonl"), list] {
        runtime.block_on(server.restore(&backup)).unwrap();
        let service = start(&server, path);
        assert_eq!(service.verdict(&leaked, &[]), valid(), "the backup is older than the revocation");
        let replay = ["audit", "replay", file.to_str().unwrap(), "--since", &*moment];
        let dry = service.json(&[&replay[..], &["--dry-run"]].concat());
        assert_eq!(service.verdict(&leaked, &[]), valid(), "{dry}");

        // Repeating it is harmless.
        for _ in 0..2 {
            let done = service.json(&replay);
            assert_eq!(done["revoked"], serde_json::json!([leaked_id]), "{done}");
            assert_eq!(
                (&done["suspended"], &done["resumed"]),
                (&dry["suspended"], &dry["resumed"]),
                "{done}"
            );
            assert_eq!(done["suspended"], serde_json::json!(["beta"]), "{done}");
            assert_eq!(done["lost"][0]["action"], "key.issue", "{done}");
        }
        assert_eq!(service.verdict(&leaked, &[]), denied("REVOKED"));
        assert_eq!(service.verdict(&suspended, &[]), denied("TENANT_SUSPENDED"));
        assert_eq!(service.verdict(&good, &[]), valid());
        assert_eq!(service.verdict(&newer, &[]), denied("UNKNOWN"));
        let shown = service.run(&replay, "").stdout;
        assert!(shown.contains("revoked: 1, suspended: 1, resumed: 1, updated: 0, deleted: 0\n"), "{shown}");
        assert!(shown.contains("key.issue: a log cannot restore it"), "{shown}");
    }
}

#[test]
fn invalid_audit_file_changes_nothing() {
    let (service, folder) = (Service::start(), tempfile::tempdir().unwrap());
    let path = folder.path().join("file");
    let replay =
        |since: &str| service.run(&["audit", "replay", path.to_str().unwrap(), "--since", since], "");
    let missing = replay("2h");
    assert!(missing.code == 2 && missing.stderr.contains("cannot read"), "{}", missing.stderr);
    fs::write(&path, "a,b\n1,2\n").unwrap();
    let invalid = replay("2h");
    assert!(
        invalid.code == 2 && invalid.stderr.contains("file:1: neither an audit log entry"),
        "{}",
        invalid.stderr
    );
    fs::write(&path, r#"{"seq":1,"at":"2030-01-01T00:00:00Z","action":"key.revoke","target":"key_nobody"}"#)
        .unwrap();
    let absent = replay("2029-01-01T00:00:00Z");
    assert_eq!(absent.code, 0, "{}", absent.stderr);
    assert!(absent.stdout.contains("key_nobody: not in this database"), "{}", absent.stdout);
}
