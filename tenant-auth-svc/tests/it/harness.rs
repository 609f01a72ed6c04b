//! What the tests share. A test file names only this module, and no other test file.

pub(crate) mod callers;
pub(crate) mod captured;
pub(crate) mod collector;
pub(crate) mod console;
pub(crate) mod console_audit;
pub(crate) mod console_pages;
mod database;
pub(crate) mod events;
pub(crate) mod former_schema;
pub(crate) mod frames;
pub(crate) mod front_doors;
mod http;
pub(crate) mod limits;
pub(crate) mod pki;
pub(crate) mod program;
pub(crate) mod raw_peer;
pub(crate) mod read_replica;
pub(crate) mod read_url;
pub(crate) mod records;
pub(crate) mod replicas;
pub(crate) mod scale;
pub(crate) mod scrape;
mod service;
pub(crate) mod sessions;
pub(crate) mod statements;
pub(crate) mod stub_server;
pub(crate) mod turso;
pub(crate) mod updates;
pub(crate) mod usage;
pub(crate) mod victim;
pub(crate) mod wire;

use std::time::Duration;

use tenant_auth_proto::v1;
use tenant_auth_svc::domain::{
    audit::Actor,
    clock::UnixMillis,
    key::KeyFormat,
    store::{Call, Change, Lane},
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

pub(crate) use self::{
    database::{BACKGROUND_STATEMENTS, TestDatabase, backend, settings_with_long_timeouts},
    http::{HttpAnswer, http_exchange, http_request, http_until},
    service::TestService,
};

/// A time in 2026.
pub(crate) const NOW: UnixMillis = UnixMillis(1_790_000_000_000);
/// The token of every test server.
pub(crate) const TOKEN: &str = "test-token";

/// A part of the statement that looks keys up.
pub(crate) const LOOKUP: &str = "AS digests";
/// A part of the statement that writes last-used times.
pub(crate) const WRITE_LAST_USED: &str = "UPDATE api_keys SET last_used_at";
/// A part of the statement that reads the change log.
pub(crate) const READ_FEED: &str = "FROM changes WHERE seq > ?1";

pub(crate) fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

pub(crate) fn change() -> Change {
    Change { actor: Actor { caller: "test".to_owned(), request_id: "req-1".to_owned() }, at: NOW }
}

pub(crate) fn call(lane: Lane) -> Call {
    Call::within(lane, Duration::from_secs(10))
}

/// Returns the verdict, or the status code of the failure.
pub(crate) fn outcome(result: &Result<v1::ValidateKeyResponse, Status>) -> String {
    match result {
        Ok(response) => response.verdict().as_str_name().to_owned(),
        Err(status) => format!("{:?}", status.code()),
    }
}

/// Returns a well-formed key that was never issued.
pub(crate) fn unknown_key() -> String {
    KeyFormat::new("ta").unwrap().generate().unwrap().expose().to_owned()
}

/// Returns the request about a key with this correlation id, for a stream.
pub(crate) fn stream_request(correlation_id: u64, key: &str) -> v1::StreamValidateKeysRequest {
    let request =
        v1::ValidateKeyRequest { key: key.to_owned(), required_scopes: Vec::new(), ..Default::default() };
    v1::StreamValidateKeysRequest { correlation_id, request: Some(request) }
}

/// Returns the reason of a failure, as the contract names it; empty if it has none.
pub(crate) fn error_reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

pub(crate) fn violated_fields(status: Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = status.get_error_details();
    let violations = &details.bad_request().unwrap().field_violations;
    assert!(violations.iter().all(|violation| !violation.description.is_empty()));
    violations.iter().map(|violation| violation.field.clone()).collect()
}
