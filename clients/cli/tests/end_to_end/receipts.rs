//! Changes that are confirmed by every replica, and changes of existing tenants and keys.

use serde_json::{Value, json};

use crate::harness::{Service, denied, only_key, replicas::Replicas, valid};

/// Runs a change with `--wait` for both replicas. Returns the exit code and the result.
fn change(replicas: &Replicas, args: &[&str]) -> (i32, Value) {
    let (one, two) = (&*replicas.one.endpoint, &*replicas.two.endpoint);
    let wait = ["--wait", "--wait-timeout", "300ms", "--replica", one, "--replica", two, "--json"];
    let ran = replicas.one.run(&[args, &wait].concat(), "");
    (ran.code, serde_json::from_str(&ran.stdout).map_err(|_| ran.stderr).unwrap())
}

#[test]
fn revocation_is_confirmed_by_every_replica_that_applied_it() {
    let replicas = Replicas::start();
    replicas.one.tenant("acme");
    replicas.one.key("acme");
    let id = only_key(&replicas.one, "acme");
    replicas.one.poll_feed();
    replicas.two.poll_feed();
    let revoke = ["key", "revoke", &id, "--reason", "leaked"];
    let (code, unconfirmed) = change(&replicas, &revoke);
    let rows = &unconfirmed["replicas"];
    assert_eq!((code, &rows[0]["applied"], &rows[1]["applied"]), (4, &false.into(), &false.into()), "{rows}");
    assert!(rows[1]["may_lack_it_until"].is_string(), "{rows}");
    assert_eq!(unconfirmed["key_id"], *id);

    replicas.one.poll_feed();
    let (code, half) = change(&replicas, &revoke);
    let rows = &half["replicas"];
    assert_eq!((code, &rows[0]["applied"], &rows[1]["applied"]), (4, &true.into(), &false.into()), "{rows}");
    assert_eq!(half["revision"], unconfirmed["revision"], "the repeat changed nothing");

    replicas.two.poll_feed();
    let (code, confirmed) = change(&replicas, &revoke);
    assert_eq!(code, 0, "{confirmed}");
    assert_eq!(confirmed["replicas"][1]["applied_revision"], confirmed["revision"]);
    let (one, two) = (&*replicas.one.endpoint, &*replicas.two.endpoint);
    let text = replicas.one.run(&[&revoke[..], &["--wait", "--replica", one, "--replica", two]].concat(), "");
    assert!(text.code == 0 && text.stdout.contains("\napplied by 2 of 2 in "), "{}", text.stdout);
    let missing = replicas
        .one
        .run(&[&revoke[..], &["--wait", "--replica", one, "--replica", "127.0.0.1:1"]].concat(), "");
    assert_eq!(missing.code, 4);
    assert!(missing.stdout.contains("applied by 1 of 2"), "{}", missing.stdout);
    assert!(missing.stdout.contains("unknown: at most its outage grace"), "{}", missing.stdout);
    let invalid =
        replicas.one.run(&[&revoke[..], &["--wait", "--wait-timeout", "11s", "--replica", one]].concat(), "");
    assert!(invalid.code == 2 && invalid.stderr.contains("--wait-timeout"), "{}", invalid.stderr);
}

#[test]
fn replicas_are_listed_with_their_state() {
    let replicas = Replicas::start();
    let (one, two) = (&*replicas.one.endpoint, &*replicas.two.endpoint);
    let shown = replicas.one.json(&["replicas", "--replica", one, "--replica", two]);
    for row in shown["replicas"].as_array().unwrap() {
        assert_eq!(
            (&row["version"], &row["error"]),
            (&json!(env!("CARGO_PKG_VERSION")), &Value::Null),
            "{row}"
        );
        assert!(row["applied_revision"].is_i64() && row["max_answer_age_ms"].is_u64(), "{row}");
    }
    let down = replicas.one.run(&["replicas", "--replica", one, "--replica", "127.0.0.1:1"], "");
    assert_eq!(down.code, 4);
    assert!(down.stdout.contains("cannot reach http://127.0.0.1:1"), "{}", down.stdout);
}

#[test]
fn tenants_and_keys_are_changed() {
    let service = Service::start();
    service.tenant("acme");
    let key = service.key("acme");
    let id = only_key(&service, "acme");
    let updated =
        service.json(&["key", "update", &id, "--name", "CI", "--scope", "a:b", "--expires-in", "90d"]);
    assert_eq!((&updated["name"], &updated["scopes"]), (&json!("CI"), &json!(["a:b"])));
    assert!(updated["expires_at"].is_string() && updated["revision"].is_i64(), "{updated}");
    let lasting = service.json(&["key", "update", &id, "--no-expiry", "--no-scopes"]);
    assert_eq!((&lasting["expires_at"], &lasting["scopes"]), (&Value::Null, &json!([])));

    service.json(&["key", "pause", &id, "--reason", "under investigation"]);
    assert_eq!(service.verdict(&key, &[]), denied("DISABLED"));
    let shown = service.json(&["key", "get", &id]);
    assert!(shown["denied_because"].as_str().unwrap().starts_with("disabled at "), "{shown}");
    service.json(&["key", "resume", &id]);
    assert_eq!(service.verdict(&key, &[]), valid());

    let stale = service.run(&["key", "update", &id, "--name", "x", "--etag", "v1"], "");
    assert!(stale.code == 3 && stale.stderr.contains("its etag is now v"), "{}", stale.stderr);
    let nothing = service.run(&["key", "update", &id], "");
    assert_eq!(nothing.code, 2, "{}", nothing.stderr);
    let tenant = service.json(&["tenant", "update", "acme", "--plan", "enterprise", "--reason", "upgrade"]);
    assert_eq!(tenant["plan"], "enterprise");
    let other =
        service.run(&["tenant", "create", "--id", "acme", "--name", "Other", "--plan", "enterprise"], "");
    assert!(other.code == 3 && other.stderr.contains("exists with another name"), "{}", other.stderr);
}
