//! Errors as JSON, and errors of a wrong port or scheme.

use serde_json::{Value, json};

use crate::harness::{
    CommandOutput, Service,
    credentials::{CredentialFiles, list},
};

/// Returns the error of a run with `--json`.
fn error(ran: &CommandOutput) -> Value {
    assert_eq!(ran.stdout, "");
    let document: Value = serde_json::from_str(&ran.stderr).map_err(|_| &ran.stderr).unwrap();
    assert_eq!(document["error"]["exit_code"], ran.code);
    document["error"].clone()
}

fn id(error: &Value) -> &str {
    error["request_id"].as_str().unwrap()
}

#[test]
fn json_flag_applies_to_errors() {
    let service = Service::start();
    let run = |args: &[&str]| error(&service.run(&[args, &["--json"]].concat(), ""));

    let missing = run(&["tenant", "get", "nobody"]);
    let request_id = id(&missing);
    assert_eq!(request_id.len(), 32);
    assert_eq!(
        missing,
        json!({
            "code": "NOT_FOUND", "message": "there is no tenant nobody", "reason": "NO_SUCH_TENANT",
            "violations": [], "hint": null, "request_id": request_id, "exit_code": 3,
        })
    );

    let invalid = run(&["tenant", "create", "--name", "", "--id", "a b"]);
    assert_eq!((&invalid["code"], &invalid["exit_code"]), (&json!("INVALID_ARGUMENT"), &json!(2)));
    let fields: Vec<_> = invalid["violations"].as_array().unwrap().iter().map(|v| &v["field"]).collect();
    assert_eq!(fields, ["--id", "--name"]);
    assert!(invalid["violations"][1]["description"].as_str().unwrap().contains("must not be empty"));
    assert_ne!(id(&invalid), request_id, "each run has its own request id");

    // Errors of clap, and errors of this program.
    for args in [&["tenant", "suspend", "acme"][..], &["info", "--timeout", "0s"], &["--nonsense"]] {
        let usage = run(args);
        assert_eq!((&usage["code"], &usage["exit_code"]), (&json!("USAGE"), &json!(2)), "{args:?}");
        assert!(!usage["message"].as_str().unwrap().starts_with("error"), "{usage}");
        assert_eq!(usage["request_id"], Value::Null, "no request was sent");
    }
    let file = service.run(&["key", "import", "-", "--json"], "sha256\nno-hash\n");
    let file = error(&file);
    assert_eq!(
        (&file["code"], &file["violations"][1]["field"]),
        (&json!("USAGE"), &json!("<stdin>:2: sha256"))
    );

    let unreachable = run(&["info", "--endpoint", "http://127.0.0.1:1"]);
    assert_eq!((&unreachable["code"], &unreachable["exit_code"]), (&json!("UNREACHABLE"), &json!(4)));
}

#[test]
fn request_id_matches_the_audit_log() {
    let service = Service::start();
    service.tenant("acme");
    let events = service.json(&["audit", "list", "--tenant", "acme"]);
    assert_eq!(events["events"][0]["request_id"].as_str().unwrap().len(), 32);
}

#[test]
fn wrong_port_error_names_the_fix() {
    let files = CredentialFiles::with_certificates();
    let encrypted = Service::start_with("https://", |settings| files.certificates(settings));
    let plain = Service::start();
    let http = encrypted.endpoint.replace("https://", "http://");
    let https = plain.endpoint.replace("http://", "https://");
    let token = files.path("operator");
    let ran = encrypted.run(&["tenant", "list", "--endpoint", &http, "--token-file", &token], "");
    assert_eq!(ran.code, 4);
    assert!(ran.stderr.contains("the port uses TLS, but the endpoint is http://"), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("hint: use {}", encrypted.endpoint)), "{}", ran.stderr);
    let ca = files.path("ca.pem");
    let ran = plain.run(&["tenant", "list", "--endpoint", &https, "--ca", &ca], "");
    assert_eq!(ran.code, 4);
    assert!(ran.stderr.contains("the port does not use TLS, but the endpoint is https://"), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("hint: use {}", plain.endpoint)), "{}", ran.stderr);
    // The scheme is right, but the certificate belongs to another CA.
    let other = CredentialFiles::with_certificates();
    let ran = list(&encrypted, &["--ca", &other.path("ca.pem"), "--token-file", &token]);
    assert!(ran.stderr.contains("with a certificate for this name"), "{}", ran.stderr);
    // The port for health and metrics.
    let ops = Service::start_with("http://", |settings| {
        settings.with_flag("TENANT_AUTH_OPS_LISTEN", Some("127.0.0.1:0".to_owned()))
    });
    let ran = ops.run(&["info", "--endpoint", &ops.ops_endpoint()], "");
    assert_eq!(ran.code, 4);
    assert!(
        ran.stderr.contains("uses HTTP/1") && ran.stderr.contains("TENANT_AUTH_LISTEN"),
        "{}",
        ran.stderr
    );
}

#[test]
fn errors_name_the_variable_that_set_an_option() {
    let files = CredentialFiles::new();
    let service = Service::start_with("http://", |settings| files.callers(settings));
    let run = |variables: &[(&str, &str)], args: &[&str]| {
        service.run_with(variables, &[&["tenant", "list"], args].concat())
    };
    for (variable, name) in [
        ("TENANTCTL_TOKEN_FILE", "TENANTCTL_TOKEN_FILE: cannot read /nowhere"),
        ("TENANTCTL_CA_FILE", "TENANTCTL_CA_FILE: cannot read /nowhere"),
        ("TENANTCTL_CERT_FILE", "TENANTCTL_CERT_FILE requires --cert-key"),
        ("TENANTCTL_CERT_KEY_FILE", "TENANTCTL_CERT_KEY_FILE requires --cert"),
    ] {
        let ran = run(&[(variable, "/nowhere")], &[]);
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(ran.stderr.starts_with(&format!("error: {name}")), "{}", ran.stderr);
    }
    let ran = run(&[("TENANTCTL_ENDPOINT", "ftp://host:1")], &[]);
    assert!(ran.code == 2 && ran.stderr.starts_with("error: TENANTCTL_ENDPOINT: "), "{}", ran.stderr);
    let ran = run(&[("TENANTCTL_ENDPOINT", "http://host:1")], &["--endpoint", "ftp://host:1"]);
    assert!(ran.code == 2 && ran.stderr.starts_with("error: --endpoint: "), "{}", ran.stderr);

    let empty =
        ["TENANTCTL_TOKEN_FILE", "TENANTCTL_CA_FILE", "TENANTCTL_CERT_FILE", "TENANTCTL_CERT_KEY_FILE"];
    let mut empty = empty.map(|variable| (variable, "")).to_vec();
    let ran = run(&empty, &["--token-file", &files.path("operator")]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    // Without the variable, the default endpoint is used.
    empty.push(("TENANTCTL_ENDPOINT", " "));
    let ran = run(&empty, &["--timeout", "1ms"]);
    assert!(ran.code == 4 && ran.stderr.contains("http://127.0.0.1:50051"), "{}", ran.stderr);
}
