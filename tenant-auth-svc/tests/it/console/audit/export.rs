//! The export of the audit log: what is in the files, and what is not written to the end.

use std::net::SocketAddr;

use serde_json::Value;
use tenant_auth_svc::domain::access::Role;
use tenant_auth_testkit::Fault;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::{TestDatabase, captured::TestLog, console::Browser, console_audit::with_entries};

/// A download under way.
struct Download {
    stream: TcpStream,
    /// What was read so far.
    received: Vec<u8>,
}

impl Download {
    /// Sends the request and reads the headers.
    async fn begin(browser: &Browser, path: &str) -> Self {
        let address: SocketAddr = browser.address;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let cookie = browser.cookie.as_deref().unwrap_or_default();
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncookie: {cookie}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut received = Vec::new();
        while !received.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
            assert_ne!(
                stream.read_buf(&mut received).await.unwrap(),
                0,
                "{:?}",
                String::from_utf8_lossy(&received)
            );
        }
        Self { stream, received }
    }

    /// Reads the rest. Returns the headers, and the file if it is whole.
    async fn finish(mut self) -> (String, Option<Vec<u8>>) {
        // A reset is the end of a file that is not whole.
        let _ = self.stream.read_to_end(&mut self.received).await;
        let head = self.received.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        let (head, body) = self.received.split_at(head + 4);
        (String::from_utf8(head.to_vec()).unwrap(), join_chunks(body))
    }
}

/// Returns the content of a chunked body; `None` if its end is missing.
fn join_chunks(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let line = body.windows(2).position(|bytes| bytes == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&body[..line]).unwrap(), 16).unwrap();
        body = &body[line + 2..];
        if size == 0 {
            return Some(whole);
        }
        whole.extend_from_slice(body.get(..size)?);
        body = body.get(size + 2..)?;
    }
}

async fn download(browser: &Browser, path: &str) -> (String, Vec<u8>) {
    let (head, file) = Download::begin(browser, path).await.finish().await;
    (head, file.expect("the file must be whole"))
}

fn read_csv(file: &[u8]) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(file);
    reader.records().map(|record| record.unwrap().iter().map(str::to_owned).collect()).collect()
}

/// Three pages of the RPC.
const MANY: &str = "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 1199) \
     INSERT INTO audit_log (at, caller, action, target, tenant_id, request_id, detail) \
     SELECT 1993456000000 + i, 'many', 'key.issue', 'key_' || i, 'acme', 'r', 'entry ' || i FROM n";

#[tokio::test]
async fn export_has_every_matching_entry_for_both_roles() {
    for role in [Role::Viewer, Role::Operator] {
        let database = TestDatabase::test_server().await;
        let (_file, _service, browser) = with_entries(&database, role).await;
        database.server().execute(MANY).unwrap();
        let (head, file) = download(&browser, "/audit.csv?caller=many").await;
        for part in [
            "HTTP/1.1 200 OK",
            "content-type: text/csv; charset=utf-8",
            "content-disposition: attachment; filename=\"tenant-auth-audit-2",
            ".csv\"",
            "cache-control: no-store",
            "x-content-type-options: nosniff",
        ] {
            assert!(head.contains(part), "{part}: {head}");
        }
        let rows = read_csv(&file);
        let header = ["seq", "at", "caller", "action", "target", "tenant_id", "request_id", "detail"];
        assert_eq!(rows[0], header);
        assert_eq!(rows.len(), 1_201, "{role:?}");
        let newest = ["2033-03-03T09:46:41.199Z", "many", "key.issue", "key_1199", "acme", "r", "entry 1199"];
        assert_eq!(rows[1][1..], newest);
        let details: Vec<_> = rows[1..].iter().map(|row| row[7].clone()).collect();
        assert_eq!(details, (0..1_200).rev().map(|entry| format!("entry {entry}")).collect::<Vec<_>>());

        let (head, file) = download(&browser, "/audit.json?caller=many").await;
        assert!(head.contains("content-type: application/json\r\n") && head.contains(".json\""), "{head}");
        let json: Value = serde_json::from_slice(&file).unwrap();
        let of_csv = rows[1..].iter().map(|row| {
            let fields = header.iter().zip(row).map(|(name, value)| match *name {
                "seq" => ((*name).to_owned(), Value::from(value.parse::<i64>().unwrap())),
                _ => ((*name).to_owned(), Value::from(value.as_str())),
            });
            Value::Object(fields.collect())
        });
        assert_eq!(json.as_array().unwrap(), &of_csv.collect::<Vec<_>>());
        let lines = TestLog::shared()
            .lines(2, |line| {
                line.contains("audit log exported")
                    && line.contains("?caller=many")
                    && line.contains(role.as_str())
            })
            .await;
        assert!(lines.iter().all(|line| line.contains("\"entries\":1200")), "{lines:?}");
    }
}

#[tokio::test]
async fn export_without_matching_entries_is_empty() {
    let database = TestDatabase::test_server().await;
    let (_file, _service, browser) = with_entries(&database, Role::Viewer).await;
    let (_, file) = download(&browser, "/audit.csv?caller=nobody").await;
    assert_eq!(read_csv(&file).len(), 1, "the header");
    let (_, file) = download(&browser, "/audit.json?caller=nobody").await;
    assert_eq!(serde_json::from_slice::<Value>(&file).unwrap(), serde_json::json!([]));
}

#[tokio::test]
async fn exported_texts_are_no_formulas_and_come_back_as_they_were() {
    let database = TestDatabase::test_server().await;
    let (_file, _service, browser) = with_entries(&database, Role::Viewer).await;
    let texts =
        ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "a, \"b\"\r\n; =c\u{202e}", "</script>", "ü"];
    for text in texts {
        let text = text.replace('\'', "''");
        let sql = format!(
            "INSERT INTO audit_log (at, caller, action, target, tenant_id, request_id, detail) \
             VALUES (2893456000000, 'hostile', 'key.issue', '{text}', '{text}', '{text}', '{text}')"
        );
        database.server().execute(&sql).unwrap();
    }
    let (_, file) = download(&browser, "/audit.csv?caller=hostile").await;
    for (row, text) in read_csv(&file)[1..].iter().rev().zip(texts) {
        let is_formula = text.starts_with(['=', '+', '-', '@', '\t']);
        let expected = if is_formula { format!("'{text}") } else { text.to_owned() };
        assert!(row[4..].iter().all(|cell| *cell == expected), "{row:?}");
    }
    let (_, file) = download(&browser, "/audit.json?caller=hostile").await;
    let json: Value = serde_json::from_slice(&file).unwrap();
    let details: Vec<_> =
        json.as_array().unwrap().iter().rev().map(|entry| entry["detail"].as_str().unwrap()).collect();
    assert_eq!(details, texts);
}

/// More than the buffers of a connection hold, so that the service waits for the reader.
const LARGE: &str = "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 4999) \
     INSERT INTO audit_log (at, caller, action, target, tenant_id, request_id, detail) \
     SELECT 1993456000000 + i, 'large', 'key.issue', 'key_' || i, 'acme', 'r', hex(zeroblob(3000)) FROM n";

#[tokio::test]
async fn export_that_cannot_be_completed_is_a_failed_download() {
    let database = TestDatabase::test_server().await;
    let (_file, _service, browser) = with_entries(&database, Role::Viewer).await;
    database.server().execute(LARGE).unwrap();
    for list in ["/audit.csv", "/audit.json"] {
        let path = format!("{list}?caller=large");
        let under_way = Download::begin(&browser, &path).await;
        database.server().faults().set(Fault::ResetBeforeExecute);
        let (head, file) = under_way.finish().await;
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        assert_eq!(file, None, "a part of a file must not look like a whole one");
        database.server().faults().clear();
    }
    let is_of_this = |line: &str| line.contains("audit log exported") && line.contains("?caller=large");
    let lines = TestLog::shared().lines(2, is_of_this).await;
    assert!(lines.iter().all(|line| line.contains("\"complete\":false")), "{lines:?}");
}

#[tokio::test]
async fn export_ends_with_the_logout() {
    let database = TestDatabase::test_server().await;
    let (_file, _service, browser) = with_entries(&database, Role::Viewer).await;
    database.server().execute(LARGE).unwrap();
    let under_way = Download::begin(&browser, "/audit.csv?caller=large&action=key.issue").await;
    assert_eq!(browser.submit("/", "/logout", &[]).await.status, 303);
    assert_eq!(under_way.finish().await.1, None);
    let answer = browser.get("/audit.csv").await;
    let login = "/login?to=%2faudit.csv";
    assert_eq!((answer.status, answer.header("location")), (303, Some(login)));
}
