//! Settings from the command line and the environment: how they are applied, and how errors name them.

use std::process::Stdio;

use tenant_auth_svc::config::Settings;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::harness::{
    TestDatabase, TestService, http_until,
    pki::Authority,
    program::{addresses, program, run, text},
};

/// A `serve` command with its own database, which needs no further settings.
fn serve_command(folder: &tempfile::TempDir) -> tokio::process::Command {
    let mut serve = program();
    serve
        .arg("serve")
        .env("TENANT_AUTH_DATABASE_URL", format!("file:{}", folder.path().join("auth.db").display()))
        .env("TENANT_AUTH_CREATE_SCHEMA", "true")
        .env("TENANT_AUTH_LISTEN", "localhost:0")
        .env("TENANT_AUTH_OPS_LISTEN", "localhost:0")
        .env("TENANT_AUTH_DRAIN_DELAY", "0s")
        .stderr(Stdio::piped());
    serve
}

/// An error names the option if the value came from one, and the variable if it came from that.
#[tokio::test]
async fn configuration_error_names_option_or_variable_given() {
    let given = [
        ("--listen", "TENANT_AUTH_LISTEN", "nowhere", "must be an address and a port"),
        ("--database-url", "TENANT_AUTH_DATABASE_URL", "ftp://x", "must be libsql://"),
        ("--database-token-file", "TENANT_AUTH_DATABASE_TOKEN_FILE", "/nowhere/token", "/nowhere/token"),
        ("--key-prefix", "TENANT_AUTH_KEY_PREFIX", "Bad Prefix", "must be 1 to 18"),
        ("--pepper-file", "TENANT_AUTH_PEPPER_FILE", "/nowhere/pepper", "cannot read"),
        ("--log", "TENANT_AUTH_LOG", "a=b=c", "invalid log filter"),
        ("--log-format", "TENANT_AUTH_LOG_FORMAT", "xml", "must be text, json or auto"),
    ];
    for command in ["serve", "migrate", "check-config", "reconcile"] {
        let (mut options, mut variables) = (program(), program());
        options.arg(command);
        variables.arg(command);
        for (option, variable, value, _) in given {
            // The option takes precedence, so the error names it.
            options.args([option, value]).env(variable, "of the environment");
            variables.env(variable, value);
        }
        for (ran, by_option) in [(run(&mut options).await, true), (run(&mut variables).await, false)] {
            let error_text = text(&ran.stderr);
            assert_eq!(ran.status.code(), Some(2), "{command}: {error_text}");
            for (option, variable, _, why) in given {
                let name = if by_option { option } else { variable };
                let line =
                    error_text.lines().find(|line| line.trim_start().starts_with(&format!("{name}: ")));
                assert!(line.is_some_and(|line| line.contains(why)), "{command} {name}: {error_text}");
            }
        }
    }
    // The error for a conflict between values names them in the same way.
    let needs = run(program().args(["check-config", "--database-url", "https://db.example"])).await;
    let reported = text(&needs.stderr);
    assert!(
        reported.contains("TENANT_AUTH_DATABASE_TOKEN_FILE: must be set: --database-url is https"),
        "{reported}"
    );
}

#[tokio::test]
async fn dev_errors_name_dev_options() {
    for (args, code, expected) in [
        (["--listen", "nowhere"], 2, "--listen: must be an address and a port"),
        (
            ["--listen", "0.0.0.0:0"],
            2,
            "--listen 0.0.0.0:0: not a loopback address; dev serves only this machine",
        ),
        (["--data-dir", "a?b"], 2, "--data-dir: must be file:PATH"),
        (["--data-dir", "/dev/null/x"], 1, "--data-dir /dev/null/x: cannot lock"),
    ] {
        let empty_folder = tempfile::tempdir().unwrap();
        let ran = run(program().arg("dev").args(args).current_dir(empty_folder.path())).await;
        let error_text = text(&ran.stderr);
        assert_eq!(ran.status.code(), Some(code), "{args:?}: {error_text}");
        assert!(
            error_text.contains(expected) && !error_text.contains("TENANT_AUTH_"),
            "{args:?}: {error_text}"
        );
    }
}

#[tokio::test]
async fn dev_opens_front_doors_on_loopback_only() {
    let empty_folder = tempfile::tempdir().unwrap();
    let mut dev = program();
    dev.arg("dev").env("TENANT_AUTH_FORWARD_LISTEN", "0.0.0.0:0").current_dir(empty_folder.path());
    let ran = run(&mut dev).await;
    let error_text = text(&ran.stderr);
    assert_eq!(ran.status.code(), Some(2), "{error_text}");
    assert!(
        error_text.contains(
            "TENANT_AUTH_FORWARD_LISTEN 0.0.0.0:0: not a loopback address; dev serves only this machine"
        ),
        "{error_text}"
    );
}

#[tokio::test]
async fn empty_variable_counts_as_unset() {
    let example = include_str!("../../../../deploy/config/tenant-auth.env");
    let mut check = program();
    check.arg("check-config");
    for line in example.lines() {
        let name = line.trim_start_matches('#').split_once('=').map_or("", |(name, _)| name);
        if name.starts_with("TENANT_AUTH_") && !name.contains(' ') {
            check.env(name, " ");
        }
    }
    check.env("TENANT_AUTH_OF_ANOTHER_VERSION", "").env("TENANT_AUTH_DATABASE_URL", "file:auth.db");
    let ran = run(&mut check).await;
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    let shown = text(&ran.stdout);
    assert_eq!(shown.matches("(environment)").count(), 1, "{shown}");
}

#[cfg(unix)]
#[tokio::test]
async fn non_utf8_variable_is_refused() {
    use std::os::unix::ffi::OsStrExt as _;

    let garbled = std::ffi::OsStr::from_bytes(b"\xff5s");
    let ran = run(program()
        .arg("check-config")
        .env("TENANT_AUTH_DATABASE_URL", "file:auth.db")
        .env("TENANT_AUTH_DRAIN_DELAY", garbled))
    .await;
    assert_eq!(ran.status.code(), Some(2));
    assert!(text(&ran.stderr).contains("TENANT_AUTH_DRAIN_DELAY: invalid duration"), "{}", text(&ran.stderr));
}

#[tokio::test]
async fn localhost_works_for_listening_and_healthcheck() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = serve_command(&folder).env("TENANT_AUTH_LOG_FORMAT", "json").spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let (address, ops) = addresses(&mut log).await;
    assert!(address.parse::<std::net::SocketAddr>().unwrap().ip().is_loopback() && ops.ip().is_loopback());
    http_until(ops, "GET /readyz", |answer| answer.status == 200).await;
    let listen = format!("localhost:{}", ops.port());
    let ready = run(program().arg("healthcheck").env("TENANT_AUTH_OPS_LISTEN", listen)).await;
    assert_eq!(text(&ready.stdout), "ready\n", "{}", text(&ready.stderr));
    let port = address.rsplit_once(':').unwrap().1;
    let endpoint = format!("http://localhost:{port}");
    let ready = run(program().args(["healthcheck", "--endpoint", &endpoint])).await;
    assert_eq!(text(&ready.stdout), "SERVING\n", "{}", text(&ready.stderr));
    let unknown = run(program().args(["serve", "--listen", "no-such-host.invalid:1"])).await;
    assert!(text(&unknown.stderr).contains("--listen: cannot resolve host \"no-such-host.invalid\""));
}

#[tokio::test]
async fn piped_output_has_no_colors() {
    let folder = tempfile::tempdir().unwrap();
    for no_color in [None, Some(""), Some("1")] {
        let mut serve = serve_command(&folder);
        serve.args(["--log-format", "text"]).envs(no_color.map(|value| ("NO_COLOR", value)));
        let mut child = serve.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut line = String::new();
        while !line.contains("serving") {
            line = log.next_line().await.unwrap().expect("serve must log that it serves");
            assert!(!line.contains('\x1b'), "{line:?}");
        }
        child.kill().await.unwrap();
    }
}

#[tokio::test]
async fn healthcheck_reports_tls_mismatch() {
    let files = Authority::new().server_certificate().write();
    let encrypted = |settings: Settings| {
        settings
            .with_flag("TENANT_AUTH_TLS_CERT_FILE", Some(files.certificate()))
            .with_flag("TENANT_AUTH_TLS_KEY_FILE", Some(files.key()))
    };
    let database = TestDatabase::embedded();
    let clock = tenant_auth_svc::domain::clock::SystemClock::shared();
    let service = TestService::start_unready(encrypted(database.settings()), clock).await;
    let address = service.running.address();
    for (endpoint, code, expected) in [
        (format!("http://{address}"), 1, "requires TLS, but this command queries gRPC only without TLS"),
        (format!("https://{address}"), 2, "this command queries gRPC only without TLS"),
        (address.to_string(), 2, ": invalid URL; use for example http://127.0.0.1:50051"),
    ] {
        let ran = run(program().args(["healthcheck", "--endpoint", &endpoint])).await;
        assert_eq!(ran.status.code(), Some(code), "{endpoint}: {}", text(&ran.stderr));
        assert!(text(&ran.stderr).contains(expected), "{endpoint}: {}", text(&ran.stderr));
    }
}
