//! The binary against a real service with an embedded database.
#![allow(clippy::unwrap_used)]

mod callers;
mod database;
mod errors;
mod grace;
mod harness;
mod import;
mod import_runs;
mod leaks;
mod limits;
mod lists;
mod one_key;
mod receipts;
mod replay;

use std::{io::ErrorKind, net::TcpListener, process::Command};

use serde_json::Value;
use tenant_auth_svc::domain::clock::UnixMillis;

use crate::harness::{Service, denied, valid};

#[test]
fn tenant_lifecycle_works() {
    let service = Service::start();
    service.tenant("acme");
    // Repeating it is harmless; another tenant with the same id is not.
    service.tenant("acme");
    let conflict = service.run(&["tenant", "create", "--name", "Other", "--id", "acme"], "");
    assert_eq!(conflict.code, 3, "{}", conflict.stderr);

    let key = service.key("acme");
    assert_eq!(service.verdict(&key, &[]), valid());
    let suspended = service.json(&["tenant", "suspend", "acme", "--reason", "unpaid"]);
    assert_eq!((&suspended["status"], &suspended["suspend_reason"]), (&"suspended".into(), &"unpaid".into()));
    assert_eq!(service.verdict(&key, &[]), denied("TENANT_SUSPENDED"));
    service.json(&["tenant", "resume", "acme"]);
    assert_eq!(service.verdict(&key, &[]), valid());

    let text = service.run(&["tenant", "get", "acme"], "").stdout;
    assert!(text.starts_with("tenant   acme\nname     Acme\nplan     pro\nstatus   active\n"), "{text}");
    let missing = service.run(&["tenant", "get", "nobody"], "");
    assert_eq!((missing.code, missing.stderr.as_str()), (3, "error: there is no tenant nobody\n"));
}

#[test]
fn issued_key_is_found_by_a_scan_with_default_options() {
    let service = Service::start();
    service.tenant("acme");
    let key = service.key("acme");
    let ran = service.run(&["scan", "-"], &format!("token={key}"));
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let prefix = &service.json(&["key", "list", "--tenant", "acme"])["keys"][0]["prefix_hint"];
    assert!(
        ran.stdout.starts_with(&format!("<stdin>:1: {}…  sha256 ", prefix.as_str().unwrap())),
        "{}",
        ran.stdout
    );
}

#[test]
fn violations_name_command_line_options() {
    let service = Service::start();
    let ran = service.run(&["tenant", "create", "--name", "", "--id", "a b"], "");
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("\n  --id: may hold only"), "{}", ran.stderr);
    assert!(ran.stderr.contains("\n  --name: must not be empty"), "{}", ran.stderr);
    service.tenant("acme");
    let ran = service.run(&["key", "issue", "--tenant", "acme", "--scope", "a", "--scope", "B"], "");
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("\n  --scope (no. 2): may hold only"), "{}", ran.stderr);
    let past = ["key", "issue", "--tenant", "acme", "--expires-at", "2001-01-01T00:00:00Z"];
    let ran = service.run(&past, "");
    assert!(ran.stderr.contains("--expires-at: must be in the future"), "{}", ran.stderr);
}

#[test]
fn key_lifecycle_works() {
    let service = Service::start();
    service.tenant("acme");
    let key = service.key("acme");
    assert_eq!(service.verdict(&key, &["--scope", "orders:read"]), valid());
    assert_eq!(service.verdict(&key, &["--scope", "orders:write"]), denied("INSUFFICIENT_SCOPE"));
    assert_eq!(service.verdict("ta_short", &[]), denied("MALFORMED"));
    assert_eq!(service.verdict("some-strange-key", &[]), denied("UNKNOWN"));

    let keys = service.json(&["key", "list", "--tenant", "acme"]);
    let id = keys["keys"][0]["key_id"].as_str().unwrap();
    let rotated = service.run(&["key", "rotate", id, "--overlap", "1h", "--expires-in", "90d"], "");
    assert_eq!(rotated.code, 0, "{}", rotated.stderr);
    assert!(rotated.stderr.starts_with("warning: the key is not stored"), "{}", rotated.stderr);
    let successor = rotated.stdout.lines().last().unwrap();
    let successor = successor.strip_prefix("plaintext").unwrap().trim();
    assert_eq!(service.verdict(successor, &["--scope", "orders:read"]), valid());
    assert_eq!(service.verdict(&key, &[]), valid());
    let again = service.run(&["key", "rotate", id], "");
    assert_eq!(again.code, 3, "{}", again.stderr);

    let revoked = service.json(&["key", "revoke", id, "--reason", "leaked"]);
    assert_eq!(revoked["revoke_reason"], "leaked");
    assert_eq!(service.verdict(&key, &[]), denied("REVOKED"));
    let listed = |args: &[&str]| {
        let args = [&["key", "list", "--tenant", "acme"], args].concat();
        service.json(&args)["keys"].as_array().unwrap().len()
    };
    assert_eq!((listed(&[]), listed(&["--include-inactive"])), (1, 2));
    let capped = service.json(&["key", "list", "--tenant", "acme", "--include-inactive", "--limit", "1"]);
    assert_eq!((capped["keys"].as_array().unwrap().len(), &capped["more"]), (1, &true.into()));
}

/// The service accepts times up to the end of the year 9999.
#[test]
fn key_expiring_in_the_last_second_is_supported() {
    const LAST_MOMENT: &str = "9999-12-31T23:59:59Z";
    let service = Service::start();
    service.tenant("acme");
    service.key("acme");
    let issued = service.json(&["key", "issue", "--tenant", "acme", "--expires-at", LAST_MOMENT]);
    let id = issued["key"]["key_id"].as_str().unwrap();
    let rotated = service.json(&["key", "rotate", id, "--expires-at", LAST_MOMENT]);
    assert_eq!(
        (&issued["key"]["expires_at"], &rotated["key"]["expires_at"]),
        (&LAST_MOMENT.into(), &LAST_MOMENT.into())
    );
    let file = format!("sha256,created_at,expires_at\n{:064x},{LAST_MOMENT},{LAST_MOMENT}\n", 1);
    let import = service.run(&["key", "import", "-", "--tenant", "acme"], &file);
    assert_eq!(
        (import.code, &*import.stdout),
        (0, "1 imported, 0 already present, 0 different, 0 rejected\n")
    );
    let listed = service.json(&["key", "list", "--tenant", "acme", "--include-inactive"]);
    assert_eq!(listed["keys"].as_array().unwrap().len(), 4);
    for id in [id, rotated["key"]["key_id"].as_str().unwrap()] {
        let revoked = service.run(&["key", "revoke", id, "--reason", "leaked"], "");
        assert_eq!(revoked.code, 0, "{}", revoked.stderr);
    }
    let plaintext = rotated["plaintext"].as_str().unwrap();
    assert_eq!(service.verdict(plaintext, &[]), denied("REVOKED"));
}

#[test]
fn import_is_repeatable_and_names_rejected_rows() {
    let service = Service::start();
    service.tenant("acme");
    let customers_key = "sk_from_elsewhere_1";
    let hash = service.run(&["key", "hash"], customers_key).stdout;
    let mut file = "tenant_id,sha256,scopes,expires_at\n".to_owned();
    file += &format!("acme,{},orders:read,2099-01-01T00:00:00Z\n", hash.trim());
    for number in 0..1_100 {
        file += &format!(",{number:064x},,\n");
    }
    file += &format!("nobody,{:064x},,\n", 1_100);

    let import = |file: &str| service.run(&["key", "import", "-", "--tenant", "acme", "--json"], file);
    let first = import(&file);
    assert_eq!(first.code, 1, "{}", first.stderr);
    let json: Value = serde_json::from_str(&first.stdout).unwrap();
    assert_eq!((&json["imported"], &json["existing"]), (&1_101.into(), &0.into()));
    assert_eq!(
        (&json["refused"][0]["line"], &json["refused"][0]["tenant_id"]),
        (&1_103.into(), &"nobody".into())
    );
    assert_eq!(service.verdict(customers_key, &["--scope", "orders:read"]), valid());

    let again: Value = serde_json::from_str(&import(&file).stdout).unwrap();
    assert_eq!((&again["imported"], &again["existing"]), (&0.into(), &1_101.into()));
    // More than one page.
    let all = service.json(&["key", "list", "--tenant", "acme", "--all"]);
    assert_eq!((all["keys"].as_array().unwrap().len(), &all["more"]), (1_101, &false.into()));
}

#[test]
fn audit_log_lists_changes_without_secrets() {
    let service = Service::start();
    service.tenant("acme");
    let key = service.key("acme");
    let log = service.run(&["audit", "list", "--tenant", "acme", "--json"], "");
    assert!(!log.stdout.contains(key.trim()));
    let log: Value = serde_json::from_str(&log.stdout).unwrap();
    assert_eq!(log["events"].as_array().unwrap().len(), 2);
    let text = service.run(&["audit", "list"], "").stdout;
    assert!(text.starts_with("AT "), "{text}");
    assert_eq!(text.lines().count(), 3, "{text}");
}

#[test]
fn repeated_usage_record_counts_once() {
    let service = Service::start();
    service.tenant("acme");
    let record = |id: &str, metric: &str, quantity: &str| {
        let args =
            ["usage", "record", "acme", "--metric", metric, "--quantity", quantity, "--id", id, "--json"];
        service.run(&args, "")
    };
    for already in [false, true] {
        let ran = record("r-1", "api.calls", "7");
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let json: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(json["already_recorded"], already);
    }
    assert_eq!(record("r-2", "tokens", "5").code, 0);
    assert_eq!(record("r-1", "api.calls", "8").code, 3, "the id was used for another event");
    let rejected = record("r-3", "Calls", "1");
    assert_eq!(rejected.code, 2);
    assert!(rejected.stderr.contains("the event has an invalid metric"), "{}", rejected.stderr);

    let shown = service.json(&["usage", "show", "acme"]);
    assert_eq!(
        (&shown["sums"][0]["metric"], &shown["sums"][0]["quantity"]),
        (&"api.calls".into(), &7.into())
    );
    let tokens = service.json(&["usage", "show", "acme", "--metric", "tokens", "--bucket", "hour"]);
    assert_eq!((tokens["sums"].as_array().unwrap().len(), &tokens["sums"][0]["quantity"]), (1, &5.into()));
    let text = service.run(&["usage", "show", "acme", "--bucket", "month"], "").stdout;
    assert!(text.starts_with("START ") && text.is_ascii() && text.lines().count() == 3, "{text}");
    let csv = service.run(&["usage", "show", "acme", "--csv"], "").stdout;
    assert!(csv.starts_with("tenant_id,start,metric,quantity\nacme,"), "{csv}");
    let nothing = service.json(&["usage", "show", "acme", "--to", "2020-01-01T00:00:00Z"]);
    assert_eq!(nothing["sums"].as_array().unwrap().len(), 0);
    let missing = service.run(&["usage", "show", "nobody"], "");
    assert_eq!((missing.code, missing.stderr.as_str()), (3, "error: there is no tenant nobody\n"));
    let backwards =
        ["usage", "show", "acme", "--from", "2020-01-02T00:00:00Z", "--to", "2020-01-01T00:00:00Z"];
    let ran = service.run(&backwards, "");
    assert!(ran.code == 2 && ran.stderr.contains("--to: must be after"), "{}", ran.stderr);
}

#[test]
fn info_describes_the_service() {
    let service = Service::start();
    let info = service.json(&["info"]);
    assert_eq!(
        (&info["database"], &info["endpoint"]),
        (&"embedded".into(), &service.endpoint.as_str().into())
    );
}

#[test]
fn session_commands_work() {
    let service = Service::start();
    service.tenant("acme");
    service.tenant("other");
    let (key, other_key) = (service.key("acme"), service.key("other"));

    let bind = |session: &str, key: &str| {
        let args = ["session", "bind", session, "--ttl", "1h", "--attribute", "client=desktop", "--json"];
        let ran = service.run(&args, key);
        (ran.code, serde_json::from_str::<Value>(&ran.stdout).unwrap())
    };
    let (code, bound) = bind("s-1", &key);
    assert_eq!((code, &bound["verdict"], &bound["already_bound"]), (0, &"VALID".into(), &false.into()));
    assert_eq!(bound["session"]["attributes"]["client"], "desktop");
    let (code, bound) = bind("s-1", &key);
    assert_eq!((code, &bound["already_bound"]), (0, &true.into()));
    let (code, bound) = bind("s-1", &other_key);
    assert_eq!((code, &bound["verdict"]), (1, &"TENANT_MISMATCH".into()));

    let validate = |session: &str, args: &[&str], stdin: &str| {
        let ran = service.run(&[&["session", "validate", session, "--json"], args].concat(), stdin);
        let json: Value = serde_json::from_str(&ran.stdout).unwrap();
        (ran.code, json["verdict"].as_str().unwrap().to_owned())
    };
    assert_eq!(validate("s-1", &["--scope", "orders:read"], ""), valid());
    assert_eq!(validate("s-1", &["--scope", "orders:write"], ""), denied("INSUFFICIENT_SCOPE"));
    assert_eq!(validate("s-1", &["--with-key"], &key), valid());
    assert_eq!(validate("s-1", &["--with-key"], &other_key), denied("TENANT_MISMATCH"));
    assert_eq!(validate("s-2", &[], ""), denied("UNBOUND"));
    let text = service.run(&["session", "validate", "s-1"], "").stdout;
    assert!(text.starts_with("session     s-1\nverdict     VALID\ntenant      acme\n"), "{text}");
    assert!(text.ends_with("attributes  client=desktop\n"), "{text}");

    bind("s-2", &key);
    let page = service.json(&["session", "list", "--tenant", "acme", "--limit", "1"]);
    assert_eq!((page["sessions"].as_array().unwrap().len(), &page["more"]), (1, &true.into()));
    let text = service.run(&["session", "list", "--tenant", "acme"], "").stdout;
    assert_eq!(text.lines().count(), 3, "{text}");

    let unbind = ["session", "unbind", "s-1", "--tenant", "acme"];
    let unbound = service.json(&[&unbind[..], &["--wait", "--replica", &service.endpoint]].concat());
    assert_eq!((&unbound["was_bound"], &unbound["replicas"][0]["applied"]), (&true.into(), &true.into()));
    assert_eq!(service.json(&unbind)["was_bound"], false);
    assert_eq!(validate("s-1", &[], ""), denied("UNBOUND"));
}

#[test]
fn session_violations_name_command_line_options() {
    let service = Service::start();
    service.tenant("acme");
    let key = service.key("acme");
    let ran = service.run(&["session", "bind", "a b", "--ttl", "31d"], &key);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("\n  SESSION_ID: "), "{}", ran.stderr);
    assert!(ran.stderr.contains("\n  --ttl: "), "{}", ran.stderr);
}

/// The clock of the service shows 2033: relative times must use it, not the clock of this machine.
#[test]
fn relative_times_use_the_service_clock() {
    let service = Service::start_at(UnixMillis(2_000_000_000_000));
    service.tenant("acme");
    let issued = service.json(&["key", "issue", "--tenant", "acme", "--name", "CI", "--expires-in", "90d"]);
    assert_eq!(issued["key"]["expires_at"], "2033-08-16T03:33:20Z", "{issued}");
    let id = issued["key"]["key_id"].as_str().unwrap();
    let rotated = service.json(&["key", "rotate", id, "--expires-in", "12h"]);
    assert_eq!(rotated["key"]["expires_at"], "2033-05-18T15:33:20Z", "{rotated}");

    let record = ["usage", "record", "acme", "--metric", "calls", "--quantity", "7", "--id", "r-1"];
    service.json(&record);
    let shown = service.json(&["usage", "show", "acme", "--bucket", "hour"]);
    assert_eq!(shown["sums"].as_array().map(Vec::len), Some(1), "the usage that was just recorded: {shown}");
}

/// Neither the binary nor the Rust client uses a proxy from the environment.
#[test]
fn proxy_environment_is_ignored() {
    let service = Service::start();
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", proxy.local_addr().unwrap());
    let mut tenantctl = Command::new(env!("CARGO_BIN_EXE_tenantctl"));
    tenantctl.arg("info").env("TENANTCTL_ENDPOINT", &service.endpoint);
    for name in ["http_proxy", "https_proxy", "all_proxy", "grpc_proxy"] {
        tenantctl.env(name, &url).env(name.to_uppercase(), &url);
    }
    for name in ["no_proxy", "NO_PROXY"] {
        tenantctl.env_remove(name);
    }
    let output = tenantctl.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    proxy.set_nonblocking(true).unwrap();
    assert_eq!(proxy.accept().map(|_| ()).unwrap_err().kind(), ErrorKind::WouldBlock);
}
