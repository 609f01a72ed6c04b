//! Tests of the binary without a service.
#![allow(clippy::unwrap_used)]

use std::{
    io::Write as _,
    net::TcpListener,
    process::{Command, Stdio},
};

struct CommandOutput {
    code: i32,
    stdout: String,
    stderr: String,
}

fn tenantctl(args: &[&str], stdin: &[u8]) -> CommandOutput {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tenantctl"))
        .args(args)
        .env_remove("TENANTCTL_ENDPOINT")
        .env_remove("TENANTCTL_TOKEN_FILE")
        .env_remove("TENANTCTL_CA_FILE")
        .env_remove("TENANTCTL_CERT_FILE")
        .env_remove("TENANTCTL_CERT_KEY_FILE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The program may exit without reading its input.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    let output = child.wait_with_output().unwrap();
    CommandOutput {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Returns an address without a listener.
fn unused_endpoint() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn help_lists_exit_codes() {
    let ran = tenantctl(&["--help"], b"");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let parts = [
        "Exit codes:",
        "70",
        "tenant",
        "key",
        "session",
        "limit",
        "audit",
        "usage",
        "validate",
        "info",
        "completions",
    ];
    for part in parts {
        assert!(ran.stdout.contains(part), "{part}");
    }
}

#[test]
fn completions_exist_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = tenantctl(&["completions", shell], b"");
        assert_eq!(ran.code, 0, "{shell}");
        assert!(ran.stdout.contains("tenantctl") && ran.stdout.contains("issue"), "{shell}");
    }
}

#[test]
fn unreachable_endpoint_prints_a_hint() {
    let endpoint = unused_endpoint();
    for args in [&["info"][..], &["tenant", "list"], &["validate"], &["key", "revoke", "k", "--reason", "r"]]
    {
        let ran = tenantctl(&[args, &["--endpoint", &endpoint]].concat(), b"ta_x\n");
        assert_eq!((ran.code, ran.stdout.as_str()), (4, ""), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.starts_with(&format!("error: cannot reach {endpoint}: ")), "{}", ran.stderr);
        assert!(ran.stderr.contains("hint: is tenant-auth running at"), "{}", ran.stderr);
    }
}

#[test]
fn usage_error_exits_with_2() {
    for args in [
        &["--nonsense"][..],
        &[],
        &["tenant", "suspend", "acme"],
        &["info", "--timeout", "0s"],
        &["info", "--endpoint", "grpc://localhost:50051"],
        &["tenant", "list", "--all", "--limit", "5"],
        &["key", "issue", "--tenant", "t", "--expires-in", "1 month"],
        &["key", "issue", "--tenant", "t", "--quiet", "--json"],
        &["key", "issue", "--tenant", "t", "--expires-in", "1d", "--expires-at", "2030-01-01T00:00:00Z"],
        &["key", "import", "/nowhere/keys.csv"],
        &["validate", "--key-file", "/nowhere/key"],
        &["session", "bind", "s"],
        &["session", "bind", "s", "--ttl", "1h", "--attribute", "client"],
        &["session", "unbind", "s"],
        &["usage", "show", "acme", "--csv", "--json"],
        &["usage", "show", "acme", "--bucket", "week"],
        &["usage", "record", "acme", "--metric", "calls", "--quantity", "1"],
        &["limit", "set", "x", "--metric", "y", "--quota", "1/day"],
        &["limit", "set", "--plan", "pro", "x", "--metric", "y"],
        &["limit", "set", "--plan", "pro", "--tenant", "t", "x", "--metric", "y", "--quota", "1/day"],
        &["limit", "set", "--plan", "pro", "x", "--metric", "y", "--quota", "1/day", "--rate", "1/s"],
        &["limit", "set", "--plan", "pro", "x", "--metric", "y", "--quota", "1/week"],
        &["limit", "set", "--plan", "pro", "x", "--metric", "y", "--quota", "1/day", "--burst", "5"],
        &["limit", "set", "--plan", "pro", "x", "--metric", "y", "--rate", "1/s", "--max-balance", "5"],
        &["limit", "get", "x"],
        &["limit", "add-credits", "--plan", "pro", "x", "5", "--id", "a"],
        &["limit", "add-credits", "--tenant", "t", "x", "5"],
    ] {
        let ran = tenantctl(args, b"");
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{args:?}: {}", ran.stderr);
        let expected = if args.contains(&"--json") { "{\"error\":" } else { "error: " };
        assert!(ran.stderr.contains(expected) || args.is_empty(), "{args:?}: {}", ran.stderr);
    }
}

#[test]
fn unusable_credential_is_named_by_option() {
    let file = |text: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    };
    let (empty, two) = (file("\n"), file("canary canary\n"));
    let (empty, two) = (empty.path().to_str().unwrap(), two.path().to_str().unwrap());
    for (args, expected) in [
        (&["--token-file", "/nowhere/token"][..], "--token-file: cannot read /nowhere/token: ".to_owned()),
        (&["--token-file", empty], format!("--token-file: {empty} contains no token")),
        (&["--token-file", two], format!("--token-file: {two} contains more than a token")),
        (&["--ca", empty], format!("--ca: {empty} contains no certificate")),
        (&["--cert", two], "--cert requires --cert-key".to_owned()),
        (&["--cert-key", two], "--cert-key requires --cert".to_owned()),
        (&["--cert", two, "--cert-key", two], format!("--cert: {two} contains no certificate")),
    ] {
        let ran = tenantctl(&[&["info", "--endpoint", "https://localhost:1"], args].concat(), b"");
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(&expected) && !ran.stderr.contains("canary"), "{args:?}: {}", ran.stderr);
    }
}

#[test]
fn key_argument_on_the_command_line_is_rejected() {
    for args in [
        &["validate", "--key", "ta_x"][..],
        &["validate", "ta_x"],
        &["key", "hash", "ta_x"],
        &["session", "bind", "s", "--ttl", "1h", "--key", "ta_x"],
    ] {
        assert_eq!(tenantctl(args, b"").code, 2, "{args:?}");
    }
}

#[test]
fn invalid_import_row_is_named_and_nothing_is_sent() {
    let file = tempfile::Builder::new().suffix(".csv").tempfile().unwrap();
    let sha = "ab".repeat(32);
    let rows = format!("tenant_id,sha256,name\nacme,{sha},fine\nacme,ta_canary,bad\n");
    std::fs::write(file.path(), rows).unwrap();
    let path = file.path().to_str().unwrap();
    // If anything were sent, the exit code would be 4.
    let ran = tenantctl(&["key", "import", path, "--endpoint", &unused_endpoint()], b"");
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
    assert!(
        ran.stderr.contains(&format!("{path}:3: sha256: must be a SHA-256: 64 hex digits")),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains("canary"), "{}", ran.stderr);
}

#[test]
fn dry_run_checks_stdin_without_a_service() {
    let row = format!("{{\"sha256\":\"{}\"}}\n", "ab".repeat(32));
    let args = ["key", "import", "-", "--tenant", "acme", "--dry-run"];
    let ran = tenantctl(&args, row.as_bytes());
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "<stdin>: 1 row is valid; nothing was sent\n"));
    let ran = tenantctl(&[&args[..], &["--json"]].concat(), row.as_bytes());
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((json["dry_run"].as_bool(), json["rows"].as_u64()), (Some(true), Some(1)));
}

#[test]
fn key_hash_ignores_the_line_end() {
    let expected = "ef797c8118f02dfb649607dd5d3f8c7623048c9c063d532cc95c5ed7a898a64f\n";
    for stdin in [&b"12345678"[..], b"12345678\n", b"12345678\r\n"] {
        let ran = tenantctl(&["key", "hash"], stdin);
        assert_eq!((ran.code, ran.stdout.as_str()), (0, expected));
    }
    assert_eq!(tenantctl(&["key", "hash"], b"\n").code, 2);
}

#[test]
fn key_hash_refuses_text_that_is_never_looked_up() {
    let (long, longest) = ("canary".repeat(43), "c".repeat(256));
    let refused = [
        ("canary\n", "has 6 bytes: a key has at least 8"),
        (&long, "has 258 bytes: a key has at most 256"),
        (" canary-1", "has a space as character 1"),
        ("canary-1 \n", "has a space as character 9"),
        ("canary-1\r\r\n", "has a line end as character 9"),
        ("\u{feff}canary-1", "has a byte order mark as character 1"),
        ("canary-ü", "has a character outside ASCII as character 8"),
    ];
    for (stdin, problem) in refused {
        let ran = tenantctl(&["key", "hash"], stdin.as_bytes());
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{stdin:?}");
        assert!(ran.stderr.contains(problem) && !ran.stderr.contains("canary"), "{stdin:?}: {}", ran.stderr);
    }
    for accepted in [&longest, "ta_canary", "!\"#$%&'~"] {
        assert_eq!(tenantctl(&["key", "hash"], accepted.as_bytes()).code, 0, "{accepted:?}");
    }
}

#[cfg(unix)]
#[test]
fn closed_stdout_is_not_an_error() {
    let script =
        format!("{:?} completions bash | true; {:?} completions bash 2>&1 >/dev/null | cat", bin(), bin());
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b""[..], &b""[..]));
}

#[cfg(unix)]
fn bin() -> &'static str {
    env!("CARGO_BIN_EXE_tenantctl")
}
