//! Long lists: page by page, in both forms, also if the reader stops.

use std::io::Read as _;

use serde_json::Value;
use tenant_auth_svc::config::Settings;

use crate::harness::{Service, credentials::CredentialFiles};

/// Six pages of 500.
const KEYS: usize = 3_000;
/// A page with these scopes is larger than a pipe buffer, so the writer waits for the reader.
const SCOPES: &str = "orders:read orders:write invoices:read invoices:write customers:read customers:write";

fn with_metrics(settings: Settings) -> Settings {
    settings.with_flag("TENANT_AUTH_OPS_LISTEN", Some("127.0.0.1:0".to_owned()))
}

fn create_keys(service: &Service, options: &[&str]) {
    let tenant = [&["tenant", "create", "--name", "Acme", "--id", "acme"], options].concat();
    assert_eq!(service.run(&tenant, "").code, 0);
    let mut file = "sha256,name,scopes\n".to_owned();
    for number in 0..KEYS {
        file += &format!("{number:064x},key number {number:04},{SCOPES}\n");
    }
    let import = service.run(&[&["key", "import", "-", "--tenant", "acme"], options].concat(), &file);
    assert_eq!(import.code, 0, "{}", import.stderr);
}

const LIST_ALL_ARGS: [&str; 5] = ["key", "list", "--tenant", "acme", "--all"];

#[test]
fn list_page_is_written_before_the_next_request() {
    let service = Service::start_with("http://", with_metrics);
    create_keys(&service, &[]);
    for form in [&[][..], &["--json"]] {
        let before = service.finished_rpcs("ListKeys");
        let mut child = service.spawn(&[&LIST_ALL_ARGS, form].concat());
        let mut stdout = child.stdout.take().unwrap();
        let mut first = [0];
        stdout.read_exact(&mut first).unwrap();
        assert!(
            service.finished_rpcs("ListKeys") - before <= 1,
            "{form:?}: the second page is requested after the first is read"
        );
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]), "{form:?}");
        assert_eq!(service.finished_rpcs("ListKeys") - before, 6, "{form:?}");
        let whole = format!("{}{rest}", char::from(first[0]));
        if form.is_empty() {
            assert_eq!(whole.lines().count(), KEYS + 1);
            // Columns are aligned from the first page to the last.
            let positions: Vec<_> =
                whole.lines().map(|line| line.find("active").or(line.find("STATE"))).collect();
            assert!(
                positions.iter().all(|position| *position == positions[1]),
                "{}",
                whole.lines().next().unwrap()
            );
        } else {
            let document: Value = serde_json::from_str(&whole).unwrap();
            assert_eq!(
                (document["keys"].as_array().unwrap().len(), &document["more"]),
                (KEYS, &false.into())
            );
            assert_eq!(
                serde_json::to_string_pretty(&document).unwrap().len() + 1,
                whole.len(),
                "the layout is the usual one"
            );
        }
    }
}

#[test]
fn closed_reader_ends_a_list_quietly() {
    let service = Service::start_with("http://", with_metrics);
    create_keys(&service, &[]);
    for form in [&[][..], &["--json"]] {
        let before = service.finished_rpcs("ListKeys");
        let mut child = service.spawn(&[&LIST_ALL_ARGS, form].concat());
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0]).unwrap();
        drop(stdout);
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]), "{form:?}");
        assert!(service.finished_rpcs("ListKeys") - before <= 1, "{form:?}");
    }
}

#[test]
fn interrupted_json_list_fails_and_stays_open() {
    let files = CredentialFiles::new();
    let service = Service::start_with("http://", |settings| files.callers(settings));
    let token = files.path("operator");
    let options = ["--token-file", &*token];
    create_keys(&service, &options);
    let mut child = service.spawn(&[&LIST_ALL_ARGS, &options[..], &["--json"]].concat());
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0]).unwrap();
    // Between two pages the operator is removed from the callers file.
    files.remove_operator();
    service.reload();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["error"]["code"], "UNAUTHENTICATED");
    assert_eq!(rest.matches("\"key_id\"").count(), 500, "the first page is written");
    assert!(
        serde_json::from_str::<Value>(&format!("{{{rest}")).is_err(),
        "an incomplete list is not valid JSON"
    );
}
