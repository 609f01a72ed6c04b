//! Receives keys that a secret scanning partner found in public places: the request and response format of GitHub's secret
//! scanning partner programme.
//!
//! The body is a JSON list of findings, signed with ECDSA P-256 over its bytes. The response labels each finding. A repeated
//! request has no further effect.

mod signing_keys;

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    response::{IntoResponse, Response},
    routing::{MethodRouter, post},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures::future::BoxFuture;
use http::{
    HeaderMap, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use self::signing_keys::{InvalidSigningKeys, SigningKeys};
use super::server::OpsState;
use crate::domain::key::PresentedKey;

/// The path of the endpoint.
pub const PATH: &str = "/github/secret-scanning";

/// Header with the identifier of the key that signed the request.
const KEY_ID_HEADER: &str = "github-public-key-identifier";
/// Header with the signature, in base64.
const SIGNATURE_HEADER: &str = "github-public-key-signature";
/// Maximum size of a request, in bytes.
const MAX_BODY_BYTES: usize = 1 << 20;
/// How long the partner waits before it sends a request again, in seconds. By then the public keys may be read again.
const RETRY_AFTER_SECONDS: &str = "60";

/// A finding.
#[derive(Deserialize)]
struct Finding {
    token: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    url: String,
}

/// A key that was found.
#[derive(Debug)]
pub struct FoundKey {
    /// The key.
    pub key: PresentedKey,
    /// The finder's name for the kind of key.
    pub kind: String,
    /// Where it was found.
    pub url: String,
}

/// The label of a finding in the response.
#[derive(Debug, Serialize)]
struct Label {
    token_hash: String,
    token_type: String,
    label: &'static str,
}

/// Why findings could not be handled. The request can be repeated.
#[derive(Debug)]
pub struct NotHandled(pub String);

/// What the endpoint needs.
#[derive(Clone)]
pub struct SecretScanning {
    /// Returns the keys that decide about a signature; an error if they may be older than the key of the signer.
    pub signing_keys: SigningKeysSource,
    /// Reports keys; returns for each, in order, whether it is a key of this service.
    pub report: ReportFoundKeys,
}

/// Returns the keys for the request of a signer; see [`SecretScanning`].
pub type SigningKeysSource =
    Arc<dyn Fn(String) -> BoxFuture<'static, Result<Arc<SigningKeys>, NotHandled>> + Send + Sync>;

/// Reports keys; see [`SecretScanning`].
pub type ReportFoundKeys =
    Arc<dyn Fn(Vec<FoundKey>) -> BoxFuture<'static, Result<Vec<bool>, NotHandled>> + Send + Sync>;

/// Returns the route.
pub(super) fn route() -> MethodRouter<OpsState> {
    post(receive).layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
}

/// Why findings were not accepted.
enum Refusal {
    /// The request is wrong: a repetition would be, too.
    Rejected(StatusCode, String),
    NotHandled(NotHandled),
}

impl From<NotHandled> for Refusal {
    fn from(error: NotHandled) -> Self {
        Self::NotHandled(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Rejected(status, text) => {
                (status, [(CACHE_CONTROL, "no-store")], format!("{text}\n")).into_response()
            }
            Self::NotHandled(NotHandled(reason)) => {
                tracing::warn!(%reason, "a secret scanning request could not be handled; the partner sends it again");
                let headers = [(RETRY_AFTER, RETRY_AFTER_SECONDS), (CACHE_CONTROL, "no-store")];
                let text = "the findings could not be handled now; send the request again\n";
                (StatusCode::SERVICE_UNAVAILABLE, headers, text).into_response()
            }
        }
    }
}

fn bad_request(text: String) -> Refusal {
    Refusal::Rejected(StatusCode::BAD_REQUEST, text)
}

async fn receive(State(state): State<OpsState>, headers: HeaderMap, body: Bytes) -> Response {
    let Some(scanning) = &state.secret_scanning else {
        let text = "secret scanning is not configured".to_owned();
        return Refusal::Rejected(StatusCode::NOT_FOUND, text).into_response();
    };
    match handle(scanning, &headers, &body).await {
        Ok(labels) => {
            ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], labels).into_response()
        }
        Err(refusal) => refusal.into_response(),
    }
}

async fn handle(scanning: &SecretScanning, headers: &HeaderMap, body: &[u8]) -> Result<String, Refusal> {
    let header = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.ok_or_else(|| bad_request(format!("the header {name} is missing")))
    };
    let (key_id, signature) = (header(KEY_ID_HEADER)?, header(SIGNATURE_HEADER)?);
    let signature = BASE64_STANDARD
        .decode(signature)
        .map_err(|_| bad_request(format!("the header {SIGNATURE_HEADER} is not base64")))?;
    let keys = (scanning.signing_keys)(key_id.to_owned()).await?;
    if !keys.verify(key_id, body, &signature) {
        let text = "the signature does not match the body and a published key".to_owned();
        return Err(Refusal::Rejected(StatusCode::UNAUTHORIZED, text));
    }
    let findings: Vec<Finding> = serde_json::from_slice(body).map_err(|error| {
        // By its position only: the body contains keys.
        let (line, column) = (error.line(), error.column());
        bad_request(format!("the body is not a JSON list of findings: line {line}, column {column}"))
    })?;
    let mut labels = Vec::with_capacity(findings.len());
    let mut found = Vec::with_capacity(findings.len());
    for Finding { token, kind, url } in findings {
        labels.push(Label {
            token_hash: BASE64_STANDARD.encode(Sha256::digest(&token)),
            token_type: kind.clone(),
            label: "false_positive",
        });
        found.push(FoundKey { key: PresentedKey::new(token), kind, url });
    }
    let known = (scanning.report)(found).await?;
    for (label, is_known) in labels.iter_mut().zip(known) {
        if is_known {
            label.label = "true_positive";
        }
    }
    serde_json::to_string(&labels).map_err(|error| NotHandled(error.to_string()).into())
}
