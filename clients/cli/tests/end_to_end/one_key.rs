//! Commands about one key, against the database and every replica.

use serde_json::{Value, json};
use tenant_auth_svc::domain::{
    clock::UnixMillis,
    key::{KeyHash, PresentedKey},
};

use crate::harness::{Service, denied, only_key, replicas::Replicas, valid};

impl Replicas {
    /// Runs `key check` with both replicas and further ones.
    fn check(&self, key_id: &str, more: &[&str]) -> (i32, Value) {
        let address = |service: &Service| service.endpoint.trim_start_matches("http://").to_owned();
        let (one, two) = (address(&self.one), address(&self.two));
        let mut args = vec!["key", "check", key_id, "--replica", &*one, "--replica", &*two, "--json"];
        more.iter().for_each(|replica| args.extend(["--replica", replica]));
        let ran = self.one.run(&args, "");
        (ran.code, serde_json::from_str(&ran.stdout).map_err(|_| ran.stderr).unwrap())
    }

    fn text(&self, key_id: &str) -> String {
        let args = ["key", "check", key_id, "--replica", &self.one.endpoint, "--replica", &self.two.endpoint];
        self.one.run(&args, "").stdout
    }
}

#[test]
fn key_check_finds_a_missed_revocation() {
    let replicas = Replicas::start();
    let (one, two) = (&replicas.one, &replicas.two);
    one.tenant("acme");
    let key = one.key("acme");
    let id = only_key(one, "acme");
    one.poll_feed();
    two.poll_feed();

    let (code, check) = replicas.check(&id, &[]);
    assert_eq!((code, &check["agree"], &check["complete"]), (0, &json!(true), &json!(true)), "{check}");
    assert_eq!(
        (&check["database"]["verdict"], &check["replicas"][1]["cached"]),
        (&json!("VALID"), &Value::Null)
    );
    assert_eq!(two.verdict(&key, &[]), valid());
    one.json(&["key", "revoke", &id, "--reason", "leaked"]);

    let (code, check) = replicas.check(&id, &[]);
    assert_eq!((code, &check["agree"]), (1, &json!(false)), "{check}");
    assert_eq!(check["database"]["verdict"], "REVOKED");
    let stale = &check["replicas"][1];
    assert_eq!(
        (&stale["agrees"], &stale["verdict"], &stale["cached"]["source"]),
        (&json!(false), &json!("VALID"), &json!("fresh"))
    );
    let text = replicas.text(&id);
    assert!(text.contains("1 CONTRADICT the database") && text.contains("\nREPLICA "), "{text}");

    two.poll_feed();
    let (code, check) = replicas.check(&id, &[]);
    assert_eq!((code, &check["agree"]), (0, &json!(true)), "{check}");
    assert_eq!(check["replicas"][1]["verdict"], "REVOKED");
    assert!(check["replicas"][1]["last_change_revoked_at"].is_string(), "{check}");
    assert_eq!(two.verdict(&key, &[]), denied("REVOKED"));
}

#[test]
fn key_check_reports_unanswered_replicas() {
    let replicas = Replicas::start();
    replicas.one.tenant("acme");
    replicas.one.key("acme");
    let id = only_key(&replicas.one, "acme");
    let (code, check) = replicas.check(&id, &["127.0.0.1:1"]);
    assert_eq!((code, &check["agree"], &check["complete"]), (4, &json!(true), &json!(false)), "{check}");
    let unanswered = &check["replicas"][2];
    assert_eq!((&unanswered["replica"], &unanswered["agrees"]), (&json!("http://127.0.0.1:1"), &Value::Null));
    assert!(
        unanswered["error"].as_str().unwrap().starts_with("cannot reach http://127.0.0.1:1"),
        "{unanswered}"
    );

    let (code, missing) = replicas.check("key_nobody", &[]);
    assert_eq!((code, &missing["database"]["verdict"]), (3, &json!("UNKNOWN")), "{missing}");
    let none = replicas.one.run(&["key", "check", "key_1", "--replica", "127.0.0.1:1"], "");
    assert!(none.code == 4 && none.stdout.contains("DATABASE DID NOT RESPOND"), "{}", none.stdout);
    let invalid = replicas.one.run(&["key", "check", "a b", "--all"], "");
    assert!(invalid.code == 2 && invalid.stderr.contains("KEY_ID: may hold only"), "{}", invalid.stderr);
}

#[test]
fn key_check_asks_every_address_of_a_name() {
    let service = Service::start();
    service.tenant("acme");
    service.key("acme");
    let id = only_key(&service, "acme");
    let check = service.json(&["key", "check", &id, "--all"]);
    assert_eq!(check["replicas"].as_array().unwrap().len(), 1);
    assert_eq!(check["replicas"][0]["replica"], service.endpoint.as_str());
}

#[test]
fn key_get_shows_the_denial_reason() {
    let service = Service::start();
    service.tenant("acme");
    let plaintext = service.key("acme");
    let id = only_key(&service, "acme");
    let shown = service.json(&["key", "get", &id]);
    assert_eq!((&shown["verdict"], &shown["denied_because"]), (&json!("VALID"), &Value::Null));
    assert_eq!((&shown["key"]["key_id"], &shown["tenant"]["name"]), (&json!(id), &json!("Acme")));
    service.json(&["tenant", "suspend", "acme", "--reason", "unpaid"]);
    let ran = service.run(&["key", "get", &id], "");
    assert_eq!(ran.code, 0);
    assert!(ran.stdout.ends_with("denied because  the tenant is suspended: unpaid\n"), "{}", ran.stdout);
    let hash = hex::encode(KeyHash::of(&PresentedKey::new(plaintext.trim().to_owned())).as_bytes());
    for secret in [plaintext.trim(), &hash] {
        assert!(!ran.stdout.contains(secret));
    }
    let missing = service.run(&["key", "get", "key_nobody"], "");
    assert_eq!((missing.code, &*missing.stderr), (3, "error: there is no key key_nobody\n"));
}

#[test]
fn keys_are_found_by_prefix_in_every_tenant() {
    let service = Service::start();
    for tenant in ["acme", "other"] {
        service.tenant(tenant);
    }
    let (ours, _) = (service.key("acme"), service.key("other"));
    let found = |args: &[&str]| {
        let found = service.json(&[&["key", "list"], args].concat());
        let tenants = found["keys"].as_array().unwrap().iter().map(|key| key["tenant_id"].clone());
        tenants.collect::<Vec<_>>()
    };
    assert_eq!(found(&["--prefix", &ours[..12]]), ["acme"]);
    assert_eq!(found(&["--prefix", "ta_"]).len(), 2);
    assert_eq!(found(&["--prefix", "ta_", "--tenant", "other"]), ["other"]);
    let text = service.run(&["key", "list", "--prefix", &ours[..12]], "").stdout;
    assert!(text.starts_with("KEY ") && text.contains("TENANT") && text.contains(" acme "), "{text}");
    // A whole key on the command line is a mistake: it is not sent.
    let whole = service.run(&["key", "list", "--prefix", ours.trim()], "");
    assert_eq!(whole.code, 2);
    assert!(whole.stderr.contains("the first characters of the key are enough"), "{}", whole.stderr);
    assert_eq!(service.run(&["key", "list"], "").code, 2, "a tenant or a prefix is required");
}

#[test]
fn tenants_and_keys_are_found_by_the_beginning_of_their_names() {
    let service = Service::start();
    for (id, name) in [("acme", "Acme GmbH"), ("acme2", "ACME Ltd"), ("other", "Other")] {
        service.json(&["tenant", "create", "--name", name, "--id", id]);
        service.json(&["key", "issue", "--tenant", id, "--name", &format!("{name} backend")]);
    }
    let found = |list: &str, field: &str, args: &[&str]| {
        let found = service.json(&[&[list, "list"], args].concat());
        let found = found[format!("{list}s")].as_array().unwrap().iter().map(|item| item[field].clone());
        found.collect::<Vec<_>>()
    };
    assert_eq!(found("tenant", "name", &["--name", "acme"]), ["Acme GmbH", "ACME Ltd"]);
    assert_eq!(found("tenant", "name", &["--name", "acme l"]), ["ACME Ltd"]);
    assert_eq!(found("key", "tenant_id", &["--name", "ACME"]), ["acme", "acme2"]);
    assert_eq!(found("key", "tenant_id", &["--name", "ACME", "--tenant", "acme2"]), ["acme2"]);
    let text = service.run(&["key", "list", "--name", "Other"], "").stdout;
    assert!(text.contains("TENANT") && text.contains(" other "), "{text}");
    for list in ["tenant", "key"] {
        let long = service.run(&[list, "list", "--name", &"x".repeat(65)], "");
        assert!(long.code == 2 && long.stderr.contains("--name: must have at most 64"), "{}", long.stderr);
    }
    assert_eq!(service.run(&["key", "list", "--name", "a", "--prefix", "ta_"], "").code, 2);
}

#[test]
fn audit_list_is_filtered_by_every_option() {
    let service = Service::start_at(UnixMillis(2_000_000_000_000));
    service.tenant("acme");
    service.key("acme");
    let id = only_key(&service, "acme");
    service.json(&["key", "revoke", &id, "--reason", "leaked"]);
    let actions = |args: &[&str]| {
        let log = service.json(&[&["audit", "list"], args].concat());
        let actions = log["events"].as_array().unwrap().iter().map(|event| event["action"].clone());
        actions.collect::<Vec<_>>()
    };
    assert_eq!(actions(&["--target", &id]), ["key.revoke", "key.issue"]);
    assert_eq!(actions(&["--caller", "unauthenticated@127.0.0.1", "--limit", "1"]), ["key.revoke"]);
    assert_eq!(actions(&["--caller", "nobody"]).len(), 0);
    assert_eq!(actions(&["--action", "key.issue"]), ["key.issue"]);
    // The clock of the service shows 2033.
    assert_eq!(actions(&["--since", "1h"]).len(), 3);
    assert_eq!(actions(&["--since", "2033-05-18T03:33:21Z"]).len(), 0);
    assert_eq!(actions(&["--since", "2h", "--until", "1h"]).len(), 0);
    let backwards = service.run(&["audit", "list", "--since", "1h", "--until", "2h"], "");
    assert!(
        backwards.code == 2 && backwards.stderr.contains("--until: must be after"),
        "{}",
        backwards.stderr
    );
}
