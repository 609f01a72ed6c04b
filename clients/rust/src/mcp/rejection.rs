//! The response to a request that may not proceed.

use std::collections::BTreeSet;

use http::{
    HeaderValue, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use http_body_util::Full;
use serde_json::{json, value::RawValue};
use tonic::codegen::Bytes;

use crate::layer::{Rejection, problem};

/// Codes of JSON-RPC errors.
pub(super) const PARSE_ERROR: i32 = -32_700;
pub(super) const INVALID_REQUEST: i32 = -32_600;
pub(super) const INVALID_PARAMS: i32 = -32_602;
pub(super) const HEADER_MISMATCH: i32 = -32_020;
/// The request was ended, because its key may no longer be used.
pub(super) const ENDED: i32 = -32_001;

/// The reason why a request may not proceed.
#[derive(Debug)]
pub(super) enum McpRejection {
    /// As in front of other HTTP services.
    Http(Rejection),
    /// The key lacks scopes of the operations.
    InsufficientScope {
        required: BTreeSet<String>,
        missing: Vec<String>,
    },
    /// No rule of the policy matches.
    NotInPolicy,
    /// The revision of the protocol is named more than once.
    RepeatedRevision,
    /// The session has ended, belongs to another tenant, or was never opened.
    NoSession(String),
    /// The body cannot be read.
    Unreadable,
    TooLarge {
        limit: usize,
    },
    /// The recorder takes no more usage now.
    UsageNotRecorded,
    /// Nothing is at this path.
    NotFound,
    MethodNotAllowed,
    /// 400 with an error of JSON-RPC.
    JsonRpc {
        code: i32,
        message: String,
        id: Option<Box<RawValue>>,
    },
}

impl From<Rejection> for McpRejection {
    fn from(rejection: Rejection) -> Self {
        Self::Http(rejection)
    }
}

impl McpRejection {
    pub(super) fn json_rpc(code: i32, message: impl Into<String>, id: Option<&RawValue>) -> Self {
        Self::JsonRpc { code, message: message.into(), id: id.map(ToOwned::to_owned) }
    }

    /// Returns the response. `resource_metadata` is the address of the metadata, if an authorization server is configured.
    pub(super) fn into_response(self, resource_metadata: Option<&str>) -> Response<Full<Bytes>> {
        let mut response = match self {
            Self::Http(rejection) => rejection.into_http(),
            Self::InsufficientScope { required, missing } => insufficient_scope(&required, &missing),
            Self::NotInPolicy => problem(
                StatusCode::FORBIDDEN,
                "NOT_IN_POLICY",
                "The policy of this server does not permit it.",
                &[],
            ),
            Self::RepeatedRevision => {
                let detail = "MCP-Protocol-Version is repeated: send it once.";
                problem(StatusCode::BAD_REQUEST, "AMBIGUOUS_REQUEST", detail, &[])
            }
            Self::NoSession(code) => {
                problem(StatusCode::NOT_FOUND, &code, "The session does not exist.", &[])
            }
            Self::Unreadable => {
                problem(StatusCode::BAD_REQUEST, "UNREADABLE_BODY", "The body could not be read.", &[])
            }
            Self::TooLarge { limit } => {
                let detail = format!("The body must have at most {limit} bytes.");
                problem(StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", &detail, &[])
            }
            Self::UsageNotRecorded => {
                let detail = "The usage cannot be recorded now.";
                let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, "UNDECIDED", detail, &[]);
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
                response
            }
            Self::NotFound => problem(StatusCode::NOT_FOUND, "NOT_FOUND", "Nothing is here.", &[]),
            Self::MethodNotAllowed => {
                let mut response = problem(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "METHOD_NOT_ALLOWED",
                    "Only GET is allowed.",
                    &[],
                );
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                response
            }
            Self::JsonRpc { code, message, id } => json_rpc(code, &message, id.as_deref()),
        };
        let challenge = response.headers_mut().get_mut(WWW_AUTHENTICATE);
        if let (Some(url), Some(challenge)) = (resource_metadata, challenge) {
            let text = challenge.to_str().unwrap_or("Bearer");
            let separator = if text.contains(' ') { "," } else { "" };
            if let Ok(value) =
                HeaderValue::from_str(&format!("{text}{separator} resource_metadata=\"{url}\""))
            {
                *challenge = value;
            }
        }
        response
    }
}

/// Returns 403 with a challenge that names all scopes that the operations need, also those that the key holds.
fn insufficient_scope(required: &BTreeSet<String>, missing: &[String]) -> Response<Full<Bytes>> {
    let detail = format!("The key lacks {}.", missing.join(", "));
    let mut response = problem(StatusCode::FORBIDDEN, "INSUFFICIENT_SCOPE", &detail, missing);
    let all = required.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{all}\"");
    if let Ok(challenge) = HeaderValue::from_str(&challenge) {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

fn json_rpc(code: i32, message: &str, id: Option<&RawValue>) -> Response<Full<Bytes>> {
    let body = error_object(id, &json!({ "code": code, "message": message }));
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Returns an error response of JSON-RPC, in one line. An id that is no text and no number becomes `null`.
pub(super) fn error_object(id: Option<&RawValue>, error: &serde_json::Value) -> String {
    let is_id =
        |id: &str| id.starts_with(|first: char| first == '"' || first == '-' || first.is_ascii_digit());
    let id = id.map(RawValue::get).filter(|id| is_id(id)).unwrap_or("null");
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)
}
