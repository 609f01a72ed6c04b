//! The checks of `key import` agree with those of the service.

use serde_json::{Value, json};
use tenant_auth_client::{Client, Error, proto};

use crate::harness::Service;

/// Returns columns and values; scopes are separated by blanks.
fn cells() -> Vec<(&'static str, String)> {
    let mut cells = Vec::new();
    let mut add = |column, values: &[&str]| {
        cells.extend(values.iter().map(|value| (column, (*value).to_owned())));
    };
    let (name, hint, id, scope) = ("n".repeat(65), "p".repeat(25), "t".repeat(65), "s".repeat(65));
    let texts = [
        "fine",
        "",
        "Müller & Söhne",
        "می\u{200c}خواهیم",
        "a\u{202e}b",
        "a\u{200b}b",
        " blank",
        "blank ",
        "a\u{e000}",
        "two\u{2028}lines",
        "tab\there",
        "\u{feff}mark",
        "\u{301}",
        "a\u{ad}b",
    ];
    add("name", &texts);
    add("name", &[&name, &name[..64], &"ü".repeat(64)]);
    add("prefix_hint", &texts);
    add("prefix_hint", &[&hint, &hint[..24]]);
    add("tenant_id", &["acme", "a b", "é", "acme.", &id]);
    add("scopes", &["orders:read", "a b c", "Upper", "a/b*", "é", &scope, &scope[..64], &"a ".repeat(33)]);
    add("created_at", &["1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1969-12-31T23:59:59Z"]);
    add("expires_at", &["1970-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59-00:01"]);
    cells
}

/// Returns the same value as a message for the service, without the checks of this program.
fn message(column: &str, value: &str) -> proto::ImportKey {
    let mut key =
        proto::ImportKey { tenant_id: "acme".to_owned(), sha256: vec![7; 32], ..Default::default() };
    // Trimmed, as the parser does.
    let value = value.trim();
    // Invalid timestamps cannot be sent to the service.
    let moment = || {
        let seconds = match value {
            "1970-01-01T00:00:00Z" => 0,
            "1969-12-31T23:59:59Z" => -1,
            "9999-12-31T23:59:59-00:01" => 253_402_300_859,
            _ => 253_402_300_799,
        };
        Some(prost_types::Timestamp { seconds, nanos: 0 })
    };
    match column {
        "name" => key.name = value.to_owned(),
        "prefix_hint" => key.prefix_hint = value.to_owned(),
        "tenant_id" => key.tenant_id = value.to_owned(),
        "scopes" => key.scopes = value.split_whitespace().map(str::to_owned).collect(),
        "created_at" => key.created_at = moment(),
        _ => key.expires_at = moment(),
    }
    key
}

#[test]
fn dry_run_finds_the_same_problems_as_the_service() {
    let service = Service::start();
    service.tenant("acme");
    let cells = cells();
    let keys: Vec<_> = cells.iter().map(|(column, value)| message(column, value)).collect();
    let endpoint = service.endpoint.clone();
    let outcomes = service.block_on(async move {
        Client::builder(endpoint).connect_lazy().unwrap().admin().import_keys(keys).await.unwrap()
    });
    for ((column, value), outcome) in cells.iter().zip(outcomes) {
        let mut row = json!({ "tenant_id": "acme", "sha256": "07".repeat(32) });
        row[*column] = Value::String(value.clone());
        let ran = service.run(&["key", "import", "-", "--dry-run", "--format", "jsonl"], &format!("{row}\n"));
        match outcome {
            Err(Error::Invalid { .. }) => {
                assert_eq!(ran.code, 2, "{column} {value:?}: the service rejects it");
                assert!(ran.stderr.contains(&format!("<stdin>:1: {column}: ")), "{}", ran.stderr);
            }
            Ok(_) => assert_eq!(ran.code, 0, "{column} {value:?}: the service accepts it; {}", ran.stderr),
            Err(error) => panic!("{column} {value:?}: {error}"),
        }
    }
}
