//! `/forward-auth` for proxies that pass the response of the check on, and `/forward-auth/nginx` for `auth_request`, which
//! knows only 2xx, 401 and 403 and answers 500 to everything else.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::{RawQuery, State},
    response::Response,
};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode, Uri,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use url::form_urlencoded;

use super::{
    counts::{ADMITTED, Door},
    door::{Admission, Answer, DoorRequest},
    http::{CLOSE, HttpDoors, caller_token},
    identity::IdentityHeaders,
    refusal::{PROBLEM_CONTENT_TYPE, Refusal},
    route::Route,
};
use crate::{
    domain::{access::FORWARD_AUTH_ACCESS, network::ClientAddress, validate::KeySource},
    telemetry::logging::RPC_TARGET,
    transport::Peer,
};

/// What a proxy says about the request of the customer. Not the URI, which may contain a key: nothing needs it.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
/// For nginx: the status for the customer, and the body.
const STATUS: HeaderName = HeaderName::from_static("x-tenant-auth-status");
const PROBLEM: HeaderName = HeaderName::from_static("x-tenant-auth-problem");

/// Answers with the status for the customer.
pub(super) async fn forward_auth<K: KeySource>(
    State(doors): State<Arc<HttpDoors<K>>>,
    Extension(peer): Extension<Peer>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let answer = doors.answer(Door::ForwardAuth, &peer, &query.unwrap_or_default(), &headers).await;
    response(&answer, Door::ForwardAuth)
}

/// Answers with a status that `auth_request` knows; the status for the customer is in a header.
pub(super) async fn nginx<K: KeySource>(
    State(doors): State<Arc<HttpDoors<K>>>,
    Extension(peer): Extension<Peer>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let answer = doors.answer(Door::Nginx, &peer, &query.unwrap_or_default(), &headers).await;
    response(&answer, Door::Nginx)
}

/// Answers at a path that is none: a mistake in the configuration of a proxy, and not of its customers.
pub(super) async fn unknown_path<K: KeySource>(
    State(doors): State<Arc<HttpDoors<K>>>,
    Extension(peer): Extension<Peer>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let door = if uri.path().starts_with("/forward-auth/nginx") { Door::Nginx } else { Door::ForwardAuth };
    let problem = "the path: use /forward-auth or /forward-auth/nginx".to_owned();
    let answer = match doors.accept(door, FORWARD_AUTH_ACCESS, &peer, &headers, caller_token(&headers)) {
        Ok(call) => {
            let refusal = Refusal::Misconfigured(problem);
            tracing::warn!(door = door.as_str(), caller = &*call.caller, "a proxy asks at an unknown path");
            doors.finish(&call, refusal.code());
            Err(refusal)
        }
        Err(error) => {
            doors.reject(door, &peer, &error);
            Err(Refusal::ProxyRejected)
        }
    };
    response(&answer, door)
}

impl<K: KeySource> HttpDoors<K> {
    async fn answer(&self, door: Door, peer: &Peer, query: &str, headers: &HeaderMap) -> Answer {
        let call = match self.accept(door, FORWARD_AUTH_ACCESS, peer, headers, caller_token(headers)) {
            Ok(call) => call,
            Err(error) => {
                self.reject(door, peer, &error);
                return Err(Refusal::ProxyRejected);
            }
        };
        let forwarded = Forwarded::read(self, peer, headers);
        let answer = match Route::parse(form_urlencoded::parse(query.as_bytes())) {
            Ok(route) => {
                let pairs =
                    || headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
                let address = forwarded.client_address;
                let request =
                    DoorRequest::new(self.door.key_headers(), forwarded.method, pairs, route, address);
                self.decide(&call, &request).await
            }
            Err(invalid) => {
                tracing::warn!(door = door.as_str(), caller = &*call.caller, %invalid, "the proxy is misconfigured");
                Err(invalid.into())
            }
        };
        let (status, code) = match &answer {
            Ok(_) => (200, ADMITTED),
            Err(refusal) => (refusal.status(), refusal.code()),
        };
        self.finish(&call, code);
        tracing::debug!(
            target: RPC_TARGET,
            door = door.as_str(),
            http.response.status_code = status,
            code,
            http.request.method = forwarded.method,
            caller = &*call.caller,
            request_id = call.request_id.as_deref(),
            "request of a proxy answered"
        );
        answer
    }
}

/// What a trusted proxy says about the request of the customer; nothing if the peer is not trusted.
#[derive(Default)]
struct Forwarded<'a> {
    client_address: Option<ClientAddress>,
    method: &'a str,
}

impl<'a> Forwarded<'a> {
    fn read<K: KeySource>(doors: &HttpDoors<K>, peer: &Peer, headers: &'a HeaderMap) -> Self {
        if !doors.trusted_peers.trusts(peer.address.ip().into()) {
            return Self::default();
        }
        let text =
            |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        // A line that is not text hides an address, so it counts as an invalid one.
        let lines: Vec<_> =
            headers.get_all(FORWARDED_FOR).iter().map(|line| line.to_str().unwrap_or_default()).collect();
        let addresses = lines.iter().flat_map(|line| line.split(','));
        Self {
            client_address: doors.trusted_peers.forwarded_client(addresses),
            method: text(&FORWARDED_METHOD),
        }
    }
}

fn response(answer: &Answer, door: Door) -> Response {
    let mut response = Response::new(Body::empty());
    let refusal = answer.as_ref().err();
    let status = refusal.map_or(200, Refusal::status);
    let key_id = match answer {
        Ok(Admission::Key { decision, .. }) => decision.key.as_ref().map(|key| key.key_id.unpack()),
        Ok(Admission::Preflight) | Err(_) => None,
    };
    let identity = match answer {
        Ok(Admission::Key { decision, principal }) => {
            decision.key.as_ref().zip(key_id.as_ref()).map(|(key, id)| {
                IdentityHeaders::of(key, id, decision.provenance.source, principal.as_deref())
            })
        }
        Ok(Admission::Preflight) | Err(_) => None,
    };
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: &str| {
        // Every value is printable ASCII. Without one, the header is empty, and no other value passes.
        headers.insert(name, HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static("")));
    };
    for (name, value) in identity.unwrap_or_default().iter() {
        set(HeaderName::from_static(name), value);
    }
    set(CACHE_CONTROL, "no-store");
    if door == Door::Nginx {
        set(STATUS, &status.to_string());
        set(PROBLEM, &refusal.map(Refusal::problem_header).unwrap_or_default());
    }
    if let Some(refusal) = refusal {
        set(CONTENT_TYPE, PROBLEM_CONTENT_TYPE);
        if let Some(challenge) = refusal.challenge() {
            set(WWW_AUTHENTICATE, &challenge);
        }
        if let Some(seconds) = refusal.retry_after() {
            set(RETRY_AFTER, &seconds.to_string());
        }
        if matches!(refusal, Refusal::ProxyRejected) {
            set(CLOSE.0, CLOSE.1);
        }
        *response.body_mut() = Body::from(refusal.problem());
    }
    let sent_status = match (door, status) {
        (Door::Nginx, 200 | 401) => status,
        (Door::Nginx, _) => 403,
        _ => status,
    };
    *response.status_mut() = StatusCode::from_u16(sent_status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    response
}
