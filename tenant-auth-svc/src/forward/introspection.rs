//! Token introspection (RFC 7662), for software that speaks HTTP and knows nothing of this service.
//!
//! Only a real denial is `active: false`. A key that cannot be decided is 503: a client that took it for inactive would turn
//! an outage of the database into an outage of everything.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::json;
use url::form_urlencoded;

use super::{
    counts::{ADMITTED, Door, INVALID_REQUEST},
    door::{Admission, Answer, DoorRequest},
    http::{CLOSE, HttpDoors},
    refusal::{PROBLEM_CONTENT_TYPE, Refusal},
    route::Route,
};
use crate::{
    domain::{
        access::{INTROSPECTION_ACCESS, TokenHash},
        key::{BorrowedKey, KeyRecord},
        key_headers::{Credential, CredentialHeaders},
        network::ClientAddress,
        validate::KeySource,
    },
    grpc::ApiError,
    middleware::identify::{CallerDirectory, PresentedCredential},
    transport::Peer,
};

/// Maximum size of a request, in bytes.
const MAX_BODY_BYTES: usize = 8 * 1_024;
/// Maximum time for a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
const FORM: &str = "application/x-www-form-urlencoded";

/// The response about a valid key. Times are in seconds since 1970.
#[derive(Serialize)]
struct Active<'a> {
    active: bool,
    /// With a space between two.
    scope: String,
    client_id: &'a str,
    sub: &'a str,
    token_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<i64>,
    tenant_name: &'a str,
    plan: &'a str,
    key_id: &'a str,
}

/// Answers whether the key in the form field `token` is valid.
pub(super) async fn introspect<K: KeySource>(
    State(doors): State<Arc<HttpDoors<K>>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let credential = client_credential(&doors.callers, &headers);
    let call = match doors.accept(Door::Introspection, INTROSPECTION_ACCESS, &peer, &headers, credential) {
        Ok(call) => call,
        Err(error) => {
            doors.reject(Door::Introspection, &peer, &error);
            return client_refused(&error);
        }
    };
    // After the client is known: others make the service read no body.
    let read = tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, MAX_BODY_BYTES)).await;
    let Ok(Ok(body)) = read else {
        doors.finish(&call, INVALID_REQUEST);
        let problem = format!(
            "the body must arrive within {} s and have at most {MAX_BODY_BYTES} bytes",
            BODY_TIMEOUT.as_secs()
        );
        return oauth_error(StatusCode::BAD_REQUEST, "invalid_request", &problem);
    };
    let form = match parse_form(&headers, &body) {
        Ok(form) => form,
        Err(problem) => {
            doors.finish(&call, INVALID_REQUEST);
            return oauth_error(StatusCode::BAD_REQUEST, "invalid_request", &problem);
        }
    };
    let request = DoorRequest {
        credential: Credential::Key(BorrowedKey::new(&form.token)),
        carriers: CredentialHeaders::default(),
        route: Route::default(),
        client_address: form.client_address,
        is_preflight: false,
    };
    let answer = doors.decide(&call, &request).await;
    doors.finish(&call, answer.as_ref().map_or_else(Refusal::code, |_| ADMITTED));
    response(&answer)
}

fn response(answer: &Answer) -> Response {
    let no_store = (CACHE_CONTROL, "no-store");
    match answer {
        Ok(Admission::Key { decision, .. }) if let Some(key) = &decision.key => {
            ([(CONTENT_TYPE, "application/json"), no_store], active(key)).into_response()
        }
        Err(Refusal::Denied(_)) => {
            ([(CONTENT_TYPE, "application/json"), no_store], json!({ "active": false }).to_string())
                .into_response()
        }
        Ok(_) => undecided(&Refusal::UNDECIDED),
        Err(refusal) => undecided(refusal),
    }
}

fn undecided(refusal: &Refusal) -> Response {
    let seconds = refusal.retry_after().unwrap_or(1).to_string();
    let headers =
        [(CONTENT_TYPE, PROBLEM_CONTENT_TYPE), (CACHE_CONTROL, "no-store"), (RETRY_AFTER, seconds.as_str())];
    (StatusCode::SERVICE_UNAVAILABLE, headers, refusal.problem()).into_response()
}

fn active(key: &KeyRecord) -> String {
    let key_id = key.key_id.unpack();
    let active = Active {
        active: true,
        scope: key.scopes.iter().collect::<Vec<_>>().join(" "),
        client_id: key_id.as_str(),
        sub: key.tenant.id.as_str(),
        token_type: "Bearer",
        exp: key.expires_at.get().map(|at| at.0.div_euclid(1_000)),
        iat: key_id.generated_at().map(|at| at.0.div_euclid(1_000)),
        tenant_name: &key.tenant.name,
        plan: &key.tenant.plan,
        key_id: key_id.as_str(),
    };
    // Texts and numbers always serialize.
    serde_json::to_string(&active).unwrap_or_default()
}

/// The fields of a request.
struct Form {
    token: zeroize::Zeroizing<String>,
    /// An extension: keys that are limited to networks need it.
    client_address: Option<ClientAddress>,
}

/// Parses the fields; others, such as `token_type_hint`, are ignored, as the standard allows.
fn parse_form(headers: &HeaderMap, body: &[u8]) -> Result<Form, String> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().is_none_or(|kind| !kind.trim().eq_ignore_ascii_case(FORM)) {
        return Err(format!("the content type must be {FORM}"));
    }
    let (mut token, mut client_address) = (None, None);
    for (field, value) in form_urlencoded::parse(body) {
        match &*field {
            "token" if token.is_some() => return Err("token: must occur once".to_owned()),
            "token" => token = Some(zeroize::Zeroizing::new(value.into_owned())),
            "client_address" if client_address.is_some() => {
                return Err("client_address: must occur once".to_owned());
            }
            "client_address" => {
                let parsed = ClientAddress::parse(&value);
                client_address = Some(parsed.map_err(|error| format!("client_address: {error}"))?);
            }
            _ => {}
        }
    }
    match token {
        Some(token) if !token.is_empty() => Ok(Form { token, client_address }),
        Some(_) => Err("token: must not be empty".to_owned()),
        None => Err("token: must be given".to_owned()),
    }
}

/// Reads the credential of the client: a caller token as a bearer token, or as the password of the caller's name.
fn client_credential(callers: &CallerDirectory, headers: &HeaderMap) -> PresentedCredential {
    let basic = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(basic_credential);
    let Some((name, token)) = basic else { return PresentedCredential::from_headers(headers) };
    let hash = TokenHash::of(&token);
    let callers = callers.load();
    let caller = callers.as_deref().and_then(|callers| callers.by_token_hash(hash));
    match caller {
        Some(caller) if *caller.name == *name => PresentedCredential::Token(hash),
        _ => PresentedCredential::Invalid,
    }
}

/// Returns name and password of `Basic`, which OAuth form-encodes before the base64 (RFC 6749, section 2.3.1).
fn basic_credential(value: &str) -> Option<(String, String)> {
    let (scheme, encoded) = value.split_once(' ')?;
    let decoded =
        scheme.eq_ignore_ascii_case("basic").then(|| BASE64_STANDARD.decode(encoded.trim()).ok())??;
    let text = String::from_utf8(decoded).ok()?;
    let (name, token) = text.split_once(':')?;
    let decode = |text: &str| percent_decode_str(text).decode_utf8().map(std::borrow::Cow::into_owned).ok();
    Some((decode(name)?, decode(token)?))
}

fn client_refused(error: &ApiError) -> Response {
    let mut response = match error {
        ApiError::RoleMissing { caller, needs } => {
            let problem = format!("the caller {caller} lacks the role {needs}");
            oauth_error(StatusCode::FORBIDDEN, "unauthorized_client", &problem)
        }
        _ => {
            let problem =
                "unknown client: send a caller token as Bearer, or as the password of the caller's name";
            oauth_error(StatusCode::UNAUTHORIZED, "invalid_client", problem)
        }
    };
    response.headers_mut().insert(CLOSE.0, HeaderValue::from_static(CLOSE.1));
    response
}

fn oauth_error(status: StatusCode, error: &str, description: &str) -> Response {
    let body = json!({ "error": error, "error_description": description }).to_string();
    let mut response =
        (status, [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], body).into_response();
    if status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Bearer, Basic realm=\"tenant-auth\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}
