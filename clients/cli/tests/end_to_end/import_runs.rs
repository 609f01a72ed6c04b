//! Whole runs of `key import`: what they accept, repetitions, interruptions and failures.

use std::{
    fs,
    path::Path,
    process::Output,
    time::{Duration, Instant},
};

use serde_json::Value;
use tenant_auth_testkit::Fault;

use crate::harness::{CommandOutput, Service, denied, replicas::Replicas, valid};

/// Keys of one request.
const PAGE: usize = 500;
/// The name of the rows of the second request.
const SECOND_PAGE: &str = "second-request";

fn import(service: &Service, file: &str) -> CommandOutput {
    service.run(&["key", "import", "-", "--tenant", "acme"], file)
}

/// Returns a file with three requests.
fn three_pages() -> String {
    let name = |row: usize| if row / PAGE == 1 { SECOND_PAGE } else { "" };
    let rows = (0..3 * PAGE).map(|row| format!("{row:064x},{}\n", name(row)));
    ["sha256,name\n".to_owned()].into_iter().chain(rows).collect()
}

fn hash(service: &Service, key: &str) -> String {
    let ran = service.run(&["key", "hash"], key);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{key}");
    ran.stdout.trim().to_owned()
}

fn text(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn key_that_was_hashed_and_imported_is_valid() {
    let service = Service::start();
    service.tenant("acme");
    let longest = "z".repeat(256);
    let keys = [
        "12345678",
        &longest,
        "sk_live_51H8abc",
        "ta_of-another-system",
        "ta_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "a,b;c\"d'e\\f|g=h",
    ];
    let mut file = "Name; SHA256 \r\n\r\n".to_owned();
    for (number, key) in keys.iter().enumerate() {
        file += &format!("key {number};{}\r\n", hash(&service, key));
    }
    let ran = import(&service, &file);
    assert_eq!(ran.stdout, "6 imported, 0 already present, 0 different, 0 rejected\n", "{}", ran.stderr);
    for key in keys {
        assert_eq!(service.verdict(key, &[]), valid(), "{key}");
    }
}

#[test]
fn key_with_other_values_is_reported_and_not_changed() {
    let service = Service::start();
    service.tenant("acme");
    let (one, two) = ("sk_live_from_elsewhere_1", "sk_live_from_elsewhere_2");
    let (sha_one, sha_two) = (hash(&service, one), hash(&service, two));
    let file = |scopes: &str, expires_at: &str| {
        format!("sha256,scopes,expires_at\n{sha_one},{scopes},{expires_at}\n{sha_two},,\n")
    };
    let expires_at = "2099-01-01T00:00:00Z";
    assert_eq!(import(&service, &file("a b", expires_at)).code, 0);
    let same = import(&service, &file("b;a", expires_at));
    assert_eq!((same.code, &*same.stdout), (0, "0 imported, 2 already present, 0 different, 0 rejected\n"));

    let changed = import(&service, &file("a", ""));
    assert_eq!(changed.code, 1);
    let expected = "0 imported, 1 already present, 1 different, 0 rejected\n<stdin>:2: different: scopes, expires_at (key_";
    assert!(changed.stdout.starts_with(expected), "{}", changed.stdout);
    assert!(changed.stderr.contains("were not changed"), "{}", changed.stderr);
    assert_eq!(service.verdict(one, &["--scope", "b"]), valid());

    let keys = service.json(&["key", "list", "--tenant", "acme"]);
    let id = keys["keys"][1]["key_id"].as_str().unwrap();
    assert_eq!(service.run(&["key", "revoke", id, "--reason", "leaked"], "").code, 0);
    let args = ["key", "import", "-", "--tenant", "acme", "--json"];
    let revoked = service.run(&args, &file("a b", expires_at));
    let json: Value = serde_json::from_str(&revoked.stdout).unwrap();
    assert_eq!((revoked.code, json["different"].as_array().unwrap().len()), (1, 1));
    assert_eq!(json["different"][0]["key_id"], id);
    assert_eq!(json["different"][0]["fields"], serde_json::json!(["revoked_at"]));
    assert_eq!([one, two].map(|key| service.verdict(key, &[])).iter().filter(|v| **v == valid()).count(), 1);
}

#[test]
fn key_of_another_tenant_is_rejected_in_a_later_import() {
    let service = Service::start();
    service.tenant("acme");
    service.tenant("other");
    let key = "sk_live_from_elsewhere";
    let sha256 = hash(&service, key);
    assert_eq!(import(&service, &format!("sha256,tenant_id\n{sha256},other\n")).code, 0);
    let taken = import(&service, &format!("sha256\n{sha256}\n"));
    assert_eq!(taken.code, 1);
    assert!(taken.stdout.contains("\n<stdin>:2: "), "{}", taken.stdout);
    assert!(taken.stdout.contains("another tenant"), "{}", taken.stdout);
    assert_eq!(service.verdict(key, &[]), valid());
    assert_eq!(service.run(&["tenant", "suspend", "other", "--reason", "unpaid"], "").code, 0);
    assert_eq!(service.verdict(key, &[]), denied("TENANT_SUSPENDED"));
}

#[test]
fn imports_at_the_same_time_share_the_rows() {
    let service = Service::start();
    service.tenant("acme");
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), three_pages()).unwrap();
    let path = file.path().to_str().unwrap();
    let running: Vec<_> =
        (0..3).map(|_| service.spawn(&["key", "import", path, "--tenant", "acme", "--json"])).collect();
    let mut imported = 0;
    for child in running {
        let (code, stdout, stderr) = text(&child.wait_with_output().unwrap());
        assert_eq!(code, Some(0), "{stdout} {stderr}");
        let json: Value = serde_json::from_str(&stdout).unwrap();
        let count = |name: &str| json[name].as_u64().unwrap();
        imported += count("imported");
        assert_eq!(count("imported") + count("existing"), 3 * PAGE as u64);
    }
    assert_eq!(imported, 3 * PAGE as u64, "each key is imported once");
}

#[test]
fn import_with_a_lost_response_reports_its_keys_as_imported() {
    let replicas = Replicas::start();
    replicas.one.tenant("acme");
    replicas.database.faults().set_where(SECOND_PAGE, 1, Fault::ResetAfterCommit);
    let ran = import(&replicas.one, &three_pages());
    assert_eq!(ran.stdout, "1500 imported, 0 already present, 0 different, 0 rejected\n", "{}", ran.stderr);
}

#[test]
fn import_without_database_says_how_far_it_got() {
    let replicas = Replicas::start();
    replicas.one.tenant("acme");
    replicas.database.faults().set_where(SECOND_PAGE, u64::MAX, Fault::service_unavailable());
    let failed = import(&replicas.one, &three_pages());
    assert_eq!(
        (failed.code, &*failed.stdout),
        (4, "500 imported, 0 already present, 0 different, 0 rejected\n")
    );
    let note =
        "the import ended early: 500 of 1500 rows are done, up to line 501; run the same command again";
    assert!(failed.stderr.starts_with(note), "{}", failed.stderr);
    assert!(failed.stderr.contains("\nerror: "), "{}", failed.stderr);

    replicas.database.faults().clear();
    // The other replica has seen no failure.
    let again = import(&replicas.two, &three_pages());
    assert_eq!(
        (again.code, &*again.stdout),
        (0, "1000 imported, 500 already present, 0 different, 0 rejected\n")
    );
}

#[cfg(unix)]
#[test]
fn interrupted_import_says_how_far_it_got_and_continues() {
    let replicas = Replicas::start();
    replicas.one.tenant("acme");
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), three_pages()).unwrap();
    replicas.database.faults().set_where(SECOND_PAGE, u64::MAX, Fault::Hang);
    let path = file.path().to_str().unwrap();
    let child = replicas.one.spawn(&["key", "import", path, "--tenant", "acme"]);
    wait_until(|| replicas.database.requests_with("INSERT INTO api_keys") == 2);
    press_ctrl_c(child.id());
    let (code, stdout, stderr) = text(&child.wait_with_output().unwrap());
    assert_eq!((code, &*stdout), (Some(130), "500 imported, 0 already present, 0 different, 0 rejected\n"));
    assert!(
        stderr.starts_with("the import ended early: 500 of 1500 rows are done, up to line 501"),
        "{stderr}"
    );

    replicas.database.faults().clear();
    let again = import(&replicas.two, &fs::read_to_string(Path::new(path)).unwrap());
    let outcome = (again.code, again.stdout.as_str());
    // The request that was in flight may have been committed.
    let expected = [
        (0, "1000 imported, 500 already present, 0 different, 0 rejected\n"),
        (0, "500 imported, 1000 already present, 0 different, 0 rejected\n"),
    ];
    assert!(expected.contains(&outcome), "{outcome:?}");
}

#[cfg(unix)]
fn press_ctrl_c(process: u32) {
    let killed = std::process::Command::new("kill").args(["-INT", &process.to_string()]).status().unwrap();
    assert!(killed.success());
}

fn wait_until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "the condition was not met in time");
        std::thread::sleep(Duration::from_millis(5));
    }
}
