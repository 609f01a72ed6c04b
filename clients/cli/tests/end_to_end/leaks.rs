//! Networks, explanations, leaked keys and the deletion of a tenant, as an operator uses them.

use serde_json::json;

use crate::harness::{Service, denied, only_key, valid};

#[test]
fn key_is_limited_to_networks() {
    let service = Service::start();
    service.tenant("acme");
    let key = service.key("acme");
    let id = only_key(&service, "acme");
    let updated =
        service.json(&["key", "update", &id, "--network", "192.0.2.0/24", "--network", "2001:db8::1"]);
    assert_eq!(updated["allowed_networks"], json!(["192.0.2.0/24", "2001:db8::1/128"]));
    assert_eq!(service.verdict(&key, &["--client-address", "192.0.2.7"]), valid());
    assert_eq!(service.verdict(&key, &["--client-address", "192.0.3.7"]), denied("ADDRESS_NOT_ALLOWED"));
    assert_eq!(service.verdict(&key, &[]), denied("ADDRESS_REQUIRED"));
    let text = service.run(&["key", "get", &id], "").stdout;
    assert!(text.contains("192.0.2.0/24 2001:db8::1/128"), "{text}");
    let explained = service.run(&["key", "explain", &id, "--client-address", "192.0.3.7"], "");
    assert_eq!(explained.code, 1, "{}", explained.stderr);
    let sentence = "may be used only from 192.0.2.0/24 2001:db8::1/128, not from 192.0.3.7\n";
    assert!(explained.stdout.starts_with(sentence), "{}", explained.stdout);

    let wrong = service.run(&["key", "update", &id, "--network", "192.0.2.7/24"], "");
    assert!(wrong.code == 2 && wrong.stderr.contains("write 192.0.2.0/24"), "{}", wrong.stderr);
    let wrong = service.run(&["validate", "--client-address", "localhost"], &key);
    assert!(wrong.code == 2 && wrong.stderr.contains("--client-address"), "{}", wrong.stderr);
    let opened = service.json(&["key", "update", &id, "--no-networks"]);
    assert_eq!(opened["allowed_networks"], json!([]));
    assert_eq!(service.verdict(&key, &[]), valid());
}

#[test]
fn found_key_is_reported_once_and_explained() {
    let service = Service::start();
    service.tenant("acme");
    let key = service.key("acme");
    let id = only_key(&service, "acme");
    let text = format!("first {key}\nsecond {key}\n");
    let reported = service.run(&["scan", "--report", "-"], &text);
    assert_eq!(reported.code, 1, "{}", reported.stderr);
    assert!(reported.stdout.contains("disabled") && !reported.stdout.contains(&key), "{}", reported.stdout);
    assert_eq!(service.verdict(&key, &[]), denied("DISABLED"));
    let again = service.run(&["scan", "--report", "-"], &text);
    assert!(again.stdout.contains("already reported"), "{}", again.stdout);

    for (args, stdin) in [(vec!["key", "explain", &*id], ""), (vec!["key", "explain"], &*key)] {
        let explained = service.run(&args, stdin);
        assert_eq!(explained.code, 1, "{}", explained.stderr);
        let line = explained.stdout.lines().next().unwrap();
        assert!(line.starts_with("disabled 0ms ago by ") || line.starts_with("disabled "), "{line}");
        assert!(line.contains(": found by tenantctl-scan; this replica has known it since "), "{line}");
        assert!(!explained.stdout.contains(&key));
    }
    service.json(&["tenant", "update", "acme", "--leak-policy", "expire:24h"]);
    let tenant = service.json(&["tenant", "get", "acme"]);
    assert_eq!(tenant["leak_policy"], "expire:1d");
    let wrong = service.run(&["tenant", "update", "acme", "--leak-policy", "revoke"], "");
    assert!(wrong.code == 2 && wrong.stderr.contains("expire:24h"), "{}", wrong.stderr);
    let unknown = service.run(&["key", "explain", "key_nobody"], "");
    assert_eq!((unknown.code, &*unknown.stderr), (3, "error: there is no key key_nobody\n"));
}

#[test]
fn suspended_tenant_is_deleted() {
    let service = Service::start();
    service.tenant("acme");
    let key = service.key("acme");
    let active = service.run(&["tenant", "delete", "acme", "--reason", "left"], "");
    assert!(active.code == 3 && active.stderr.contains("suspend it before"), "{}", active.stderr);
    service.json(&["tenant", "suspend", "acme", "--reason", "left"]);
    let deleted = service.json(&["tenant", "delete", "acme", "--reason", "left", "--delete-usage"]);
    assert_eq!((&deleted["tenant_id"], &deleted["keys_deleted"]), (&json!("acme"), &json!(1)), "{deleted}");
    assert_eq!(service.verdict(&key, &[]), denied("UNKNOWN"));
    let explained = service.run(&["key", "explain"], &key);
    assert!(explained.stdout.starts_with("the database does not contain it\n"), "{}", explained.stdout);
}
