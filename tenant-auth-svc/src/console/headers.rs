//! What every response says to browsers, and which requests of browsers are refused.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
    header::{CACHE_CONTROL, HOST, ORIGIN},
};

use super::Console;

/// Only own styles, scripts and pictures; no frame anywhere; forms go nowhere else.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
     connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// The headers of every response. `no-referrer` would make browsers hide the origin of forms.
pub(super) const SECURITY_HEADERS: [(&str, &str); 7] = [
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-frame-options", "DENY"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
];

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses requests that another site has made a browser send, and adds the headers to every response.
pub(super) async fn guard(State(console): State<Arc<Console>>, request: Request, next: Next) -> Response {
    let needs_login = console.parts.callers.load().is_some();
    let refusal = if !needs_login && !is_named_by_address(request.headers(), request.uri()) {
        Some("open the console at an address such as 127.0.0.1, not at a name: nobody has to log in here\n")
    } else if !matches!(*request.method(), Method::GET | Method::HEAD) && !is_same_origin(request.headers()) {
        Some("the request comes from another site: send it from a page of the console\n")
    } else {
        None
    };
    let mut response = match refusal {
        Some(message) => (StatusCode::FORBIDDEN, message).into_response(),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in SECURITY_HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Whether a browser sent the request from a page of this host. Browsers send `Origin` with every request that is not a GET.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let site_agrees = headers.get(SEC_FETCH_SITE).is_none_or(|site| site == "same-origin");
    let origin = text(&ORIGIN).and_then(|origin| origin.split_once("://"));
    let origin_agrees = origin.is_some_and(|(_, authority)| Some(authority) == text(&HOST));
    site_agrees && origin_agrees
}

/// Whether the host of a request is an address or `localhost`. A name could be that of another site, which has been made to
/// resolve to this machine (DNS rebinding).
fn is_named_by_address(headers: &HeaderMap, uri: &Uri) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let Some(authority) = host.or(uri.authority().map(|authority| authority.as_str())) else { return false };
    let Ok(authority) = authority.parse::<http::uri::Authority>() else { return false };
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || address.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        pairs.collect()
    }

    #[test]
    fn only_pages_of_this_host_may_send_forms() {
        let host = ("host", "127.0.0.1:50054");
        for (sent, accepted) in [
            (vec![host, ("origin", "http://127.0.0.1:50054")], true),
            (vec![host, ("origin", "http://127.0.0.1:50054"), ("sec-fetch-site", "same-origin")], true),
            (vec![host, ("origin", "http://127.0.0.1:50054"), ("sec-fetch-site", "same-site")], false),
            (vec![host, ("origin", "http://127.0.0.1:50055")], false),
            (vec![host, ("origin", "http://evil.example")], false),
            (vec![host, ("origin", "null")], false),
            (vec![host, ("sec-fetch-site", "same-origin")], false),
            (vec![host], false),
        ] {
            assert_eq!(is_same_origin(&headers(&sent)), accepted, "{sent:?}");
        }
    }

    #[test]
    fn name_of_another_site_is_no_address() {
        let uri = Uri::from_static("/");
        for (host, accepted) in [
            ("127.0.0.1:50054", true),
            ("[::1]:50054", true),
            ("localhost:50054", true),
            ("rebound.example:50054", false),
            ("127.0.0.1.example", false),
            ("", false),
        ] {
            assert_eq!(is_named_by_address(&headers(&[("host", host)]), &uri), accepted, "{host:?}");
        }
        assert!(!is_named_by_address(&HeaderMap::new(), &uri));
    }
}
