//! Limits, as an operator sets them and reads what is used.

use serde_json::json;

use crate::harness::{Service, only_key};

#[test]
fn limit_lifecycle_works() {
    let service = Service::start();
    service.tenant("acme");
    let set = ["limit", "set", "--plan", "pro", "requests.daily", "--metric", "requests"];
    let first = service.json(&[&set[..], &["--quota", "10_000/day", "--if-version", "0"]].concat());
    assert_eq!((&first["plan"], &first["name"]), (&json!("pro"), &json!("requests.daily")), "{first}");
    assert_eq!(first["quota"], json!({ "amount": 10_000, "window": "day" }));
    assert_eq!((&first["on_outage"], &first["shadow"]), (&json!("closed"), &json!(false)));
    let replaced =
        [&set[..], &["--quota", "500/rolling:90m", "--on-outage", "local-share", "--shadow"]].concat();
    let second = service.json(&[&replaced[..], &["--wait", "--replica", &service.endpoint]].concat());
    assert_eq!(second["quota"], json!({ "amount": 500, "window": "rolling:90m" }));
    assert_eq!(second["replicas"][0]["applied"], true, "{second}");
    let outdated = service.run(&[&set[..], &["--quota", "1/day", "--if-version", "1"]].concat(), "");
    assert!(outdated.code == 3 && outdated.stderr.contains("has changed since"), "{}", outdated.stderr);

    let text = service.run(&["limit", "get", "--plan", "pro", "requests.daily"], "").stdout;
    let expected = "limit      requests.daily\nof         plan pro\nmetric     requests\nrule       500/rolling:90m\n\
                    on outage  local-share\nshadow     yes\n";
    assert!(text.starts_with(expected), "{text}");
    service.json(&[
        "limit", "set", "--tenant", "acme", "burst", "--metric", "requests", "--rate", "10/s", "--burst",
        "20",
    ]);
    let listed = service.json(&["limit", "list"]);
    assert_eq!(listed["limits"].as_array().unwrap().len(), 2, "{listed}");
    assert_eq!(listed["limits"][1]["rate"], json!({ "amount": 10, "per_ms": 1_000, "burst": 20 }));
    let text = service.run(&["limit", "list", "--tenant", "acme"], "").stdout;
    assert!(text.starts_with("OF ") && text.lines().count() == 2, "{text}");
    assert!(text.contains("tenant acme") && text.contains("10/1s burst 20"), "{text}");

    let deletion = ["limit", "delete", "--plan", "pro", "requests.daily"];
    assert_eq!(service.run(&deletion, "").stdout, "requests.daily is deleted\n");
    assert_eq!(service.json(&deletion)["existed"], false);
    let missing = service.run(&["limit", "get", "--plan", "pro", "requests.daily"], "");
    assert_eq!((missing.code, &*missing.stderr), (3, "error: plan pro has no limit requests.daily\n"));
}

#[test]
fn credits_are_added_once() {
    let service = Service::start();
    service.tenant("acme");
    service.key("acme");
    let key = only_key(&service, "acme");
    let set = ["limit", "set", "--key-id", &key, "tokens", "--metric", "tokens", "--credits", "1000"];
    let limit = service.json(&[&set[..], &["--refill", "1000/month", "--max-balance", "5000"]].concat());
    let refill = json!({ "amount": 1_000, "every": "month", "max_balance": 5_000 });
    assert_eq!(limit["credits"], json!({ "initial": 1_000, "refill": refill }), "{limit}");

    let add =
        ["limit", "add-credits", "--key-id", &key, "tokens", "250", "--id", "invoice-1", "--reason", "paid"];
    for already_added in [false, true] {
        let added = service.json(&add);
        assert_eq!((&added["credited"], &added["remaining"]), (&json!(1_250), &json!(1_250)), "{added}");
        assert_eq!(added["already_added"], already_added);
    }
    let again = service.run(&add, "");
    assert!(again.stderr.contains("an earlier command with this id"), "{}", again.stderr);
    let taken = ["limit", "add-credits", "--key-id", &key, "tokens", "-50", "--id", "refund-1"];
    let text = service.run(&taken, "").stdout;
    assert_eq!(text, "limit      tokens\ncredited   1200\nremaining  1200\n");
    let reused = service.run(&[&taken[..4], &["tokens", "-51", "--id", "refund-1"]].concat(), "");
    assert!(reused.code == 3 && reused.stderr.contains("refund-1"), "{}", reused.stderr);
}

#[test]
fn limit_violations_name_command_line_options() {
    let service = Service::start();
    for (args, problem) in [
        (vec!["--tenant", "a b", "x", "--metric", "y", "--quota", "1/day"], "--tenant: may hold only"),
        (vec!["--plan", "pro", "X", "--metric", "y", "--quota", "1/day"], "NAME: must be a lower-case name"),
        (
            vec!["--plan", "pro", "x", "--metric", "Y", "--quota", "1/day"],
            "--metric: must be a lower-case name",
        ),
        (vec!["--plan", "pro", "x", "--metric", "y", "--quota", "1/rolling:1s"], "--quota: must be 1 minute"),
        (vec!["--plan", "pro", "x", "--metric", "y", "--rate", "0/s"], "--rate: must be 1 to"),
        (vec!["--plan", "pro", "x", "--metric", "y", "--rate", "1/s", "--burst=-1"], "--burst: must be 1 to"),
        (vec!["--plan", "pro", "x", "--metric", "y", "--credits=-1"], "--credits: must be 0 to"),
    ] {
        let ran = service.run(&[&["limit", "set"], &args[..]].concat(), "");
        assert!(ran.code == 2 && ran.stderr.contains(&format!("\n  {problem}")), "{args:?}: {}", ran.stderr);
    }
    let ran = service.run(&["limit", "add-credits", "--tenant", "nobody", "x", "0", "--id", "ü"], "");
    assert!(ran.code == 2 && ran.stderr.contains("\n  AMOUNT: must be"), "{}", ran.stderr);
    assert!(ran.stderr.contains("\n  --id: must have 1 to 128"), "{}", ran.stderr);
    let ran = service.run(&["limit", "add-credits", "--tenant", "nobody", "x", "1", "--id", "a"], "");
    assert_eq!((ran.code, &*ran.stderr), (3, "error: there is no tenant nobody\n"));
}

#[test]
fn limit_state_shows_what_is_left() {
    let service = Service::start();
    service.tenant("acme");
    assert_eq!(service.run(&["limit", "state", "--tenant", "acme"], "").stdout, "no limit applies\n");
    let set = ["limit", "set", "--plan", "pro", "requests.daily", "--metric", "requests"];
    service.json(&[&set[..], &["--quota", "100/day"]].concat());
    let shadow =
        ["limit", "set", "--tenant", "acme", "tokens", "--metric", "tokens", "--credits", "10", "--shadow"];
    service.json(&shadow);
    let state = service.json(&["limit", "state", "--tenant", "acme"]);
    let [daily, tokens] = &state["limits"].as_array().unwrap()[..] else { panic!("{state}") };
    assert_eq!(
        (&daily["used"], &daily["remaining"], &daily["plan"]),
        (&json!(0), &json!(100), &json!("pro"))
    );
    assert!(daily["reset_after_ms"].as_u64().unwrap() <= 86_400_000, "{state}");
    assert_eq!((&tokens["remaining"], &tokens["reset_after_ms"]), (&json!(10), &json!(null)));

    service.key("acme");
    let key = only_key(&service, "acme");
    let text = service.run(&["limit", "state", "--key-id", &key], "").stdout;
    assert!(text.is_ascii() && text.starts_with("LIMIT ") && text.lines().count() == 3, "{text}");
    assert!(text.contains("[....................]") && text.contains("tokens (shadow)"), "{text}");
    let missing = service.run(&["limit", "state", "--tenant", "nobody"], "");
    assert_eq!((missing.code, &*missing.stderr), (3, "error: there is no tenant nobody\n"));
    let invalid = service.run(&["limit", "state", "--key-id", "a b"], "");
    assert!(
        invalid.code == 2 && invalid.stderr.contains("\n  --key-id: may hold only"),
        "{}",
        invalid.stderr
    );
}
