//! The tower layer with a real tenant-auth service.

use std::{convert::Infallible, net::SocketAddr};

use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tenant_auth_client::{AuthenticateLayer, Principal, proto as v1};
use tonic::{Code, Status, body::Body};
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::harness::Service;

/// The response, with the tenant that the service behind the layer saw, if it was called.
struct Seen {
    response: Response<()>,
    body: Vec<u8>,
}

impl Seen {
    fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name).map(|value| value.to_str().unwrap())
    }

    fn problem(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert_eq!(self.header("cache-control"), Some("no-store"));
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!((&problem["type"], &problem["status"]), (&json!("about:blank"), &json!(self.status())));
        assert_eq!(problem["title"].as_str(), self.response.status().canonical_reason());
        assert!(problem["detail"].is_string());
        problem
    }
}

async fn send(layer: &AuthenticateLayer, request: Request<()>) -> Seen {
    let inner = service_fn(async |request: Request<()>| {
        let principal = request.extensions().get::<Principal>();
        let tenant = principal.map_or("nobody", |principal| principal.tenant_id());
        Ok::<_, Infallible>(Response::builder().header("tenant", tenant).body(Body::default()).unwrap())
    });
    let (parts, body) = layer.layer(inner).oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    Seen { response: Response::from_parts(parts, ()), body }
}

fn with(headers: &[(&str, &[u8])]) -> Request<()> {
    let builder = Request::builder().uri("/orders");
    let add = |builder: http::request::Builder, (name, value): &(&str, &[u8])| {
        builder.header(*name, HeaderValue::from_bytes(value).unwrap())
    };
    headers.iter().fold(builder, add).body(()).unwrap()
}

fn bearer(key: &str) -> Request<()> {
    with(&[("authorization", format!("Bearer {key}").as_bytes())])
}

#[tokio::test]
async fn valid_key_passes_with_its_principal() {
    let service = Service::start().await;
    let key = service.key().await;
    let layer = AuthenticateLayer::new(service.client.clone()).requires("orders:read");
    for scheme in ["Bearer ", "bearer  ", "BEARER "] {
        let seen =
            send(&layer, with(&[("authorization", format!("{scheme}{}", key.expose()).as_bytes())])).await;
        assert_eq!((seen.status(), seen.header("tenant")), (200, Some("acme")), "{scheme}");
    }
    let layer = layer.header(HeaderName::from_static("x-api-key"));
    let seen = send(&layer, with(&[("x-api-key", key.expose().as_bytes())])).await;
    assert_eq!((seen.status(), seen.header("tenant")), (200, Some("acme")));
    assert_eq!(send(&layer, bearer(key.expose())).await.problem()["code"], "NO_CREDENTIALS");
}

#[tokio::test]
async fn layer_takes_the_address_from_trusted_proxies_only() {
    let service = Service::start().await;
    let key = service.key().await;
    let list = v1::ListKeysRequest { tenant_id: "acme".to_owned(), ..Default::default() };
    let listed = service.admin().list_keys(list).await.unwrap();
    let request = v1::UpdateKeyRequest {
        key_id: listed.keys[0].key_id.clone(),
        update_mask: Some(prost_types::FieldMask { paths: vec!["allowed_networks".to_owned()] }),
        allowed_networks: vec!["192.0.2.0/24".to_owned()],
        ..Default::default()
    };
    service.admin().update_key(request).await.unwrap();
    let plain = AuthenticateLayer::new(service.client.clone());
    let layer = plain
        .clone()
        .peer_address(|all| Some(all.get::<SocketAddr>()?.ip()))
        .trusted_proxies(&["10.0.0.0/8"])
        .unwrap();
    let cloudflare = layer.clone().client_address_header(HeaderName::from_static("cf-connecting-ip"));
    let request = |peer: &str, headers: &[(&str, &str)]| {
        let key = format!("Bearer {}", key.expose());
        let mut all: Vec<(&str, &[u8])> = vec![("authorization", key.as_bytes())];
        all.extend(headers.iter().map(|(name, value)| (*name, value.as_bytes())));
        let mut request = with(&all);
        if let Ok(peer) = peer.parse::<SocketAddr>() {
            request.extensions_mut().insert(peer);
        }
        request
    };
    let forwarded = "x-forwarded-for";
    for (layer, peer, headers, expected) in [
        (&layer, "192.0.2.7:1", &[][..], None),
        (&layer, "203.0.113.1:1", &[(forwarded, "192.0.2.7")], Some("ADDRESS_NOT_ALLOWED")),
        (&layer, "10.0.0.1:1", &[(forwarded, "203.0.113.1, 192.0.2.7")], None),
        (
            &layer,
            "10.0.0.1:1",
            &[(forwarded, "192.0.2.7"), (forwarded, "203.0.113.1, 10.0.0.2")],
            Some("ADDRESS_NOT_ALLOWED"),
        ),
        (&layer, "10.0.0.1:1", &[(forwarded, "192.0.2.7, unknown")], Some("ADDRESS_REQUIRED")),
        (&layer, "10.0.0.1:1", &[], Some("ADDRESS_REQUIRED")),
        (&layer, "no peer", &[(forwarded, "192.0.2.7")], Some("ADDRESS_REQUIRED")),
        (&cloudflare, "10.0.0.1:1", &[("cf-connecting-ip", "192.0.2.7"), (forwarded, "203.0.113.1")], None),
        (&plain, "192.0.2.7:1", &[], Some("ADDRESS_REQUIRED")),
    ] {
        let seen = send(layer, request(peer, headers)).await;
        match expected {
            None => assert_eq!(seen.status(), 200, "{peer} {headers:?}"),
            Some(code) => {
                assert_eq!(
                    (seen.status(), &seen.problem()["code"]),
                    (403, &json!(code)),
                    "{peer} {headers:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn malformed_or_unknown_credentials_are_401() {
    let service = Service::start().await;
    let key = service.key().await;
    let layer = AuthenticateLayer::new(service.client.clone());
    let long = format!("Bearer {}", "x".repeat(100_000));
    for (value, code) in [
        (&b"Basic good"[..], "NO_CREDENTIALS"),
        (b"Bearer ", "NO_CREDENTIALS"),
        (b"Bearer", "NO_CREDENTIALS"),
        (b"", "NO_CREDENTIALS"),
        (key.expose().as_bytes(), "NO_CREDENTIALS"),
        (b"Bearer some-strange-key", "UNKNOWN"),
        (b"Bearer ta_short", "MALFORMED"),
        (b"Bearer two keys", "MALFORMED"),
        (b"Bearer \xff\xfe", "MALFORMED"),
        (long.as_bytes(), "MALFORMED"),
    ] {
        let seen = send(&layer, with(&[("authorization", value)])).await;
        assert_eq!((seen.status(), &seen.problem()["code"]), (401, &json!(code)), "{value:?}");
        let challenge = if code == "NO_CREDENTIALS" { "Bearer" } else { "Bearer error=\"invalid_token\"" };
        assert_eq!(seen.header("www-authenticate"), Some(challenge), "{value:?}");
    }
    assert_eq!(send(&layer, with(&[])).await.problem()["code"], "NO_CREDENTIALS");
}

#[tokio::test]
async fn scope_suspension_and_revocation_differ_in_status() {
    let service = Service::start().await;
    let key = service.key().await;
    let layer = AuthenticateLayer::new(service.client.clone());
    let seen = send(&layer.clone().requires("b").requires("a"), bearer(key.expose())).await;
    assert_eq!(seen.header("www-authenticate"), Some("Bearer error=\"insufficient_scope\", scope=\"a b\""));
    let problem = seen.problem();
    assert_eq!((seen.status(), &problem["code"]), (403, &json!("INSUFFICIENT_SCOPE")));
    assert_eq!(problem["missing_scopes"], json!(["a", "b"]));

    service.admin().suspend_tenant("acme", "test").await.unwrap();
    let seen = send(&layer, bearer(key.expose())).await;
    assert_eq!((seen.status(), &seen.problem()["code"]), (403, &json!("TENANT_SUSPENDED")));
    service.admin().resume_tenant("acme").await.unwrap();
    let key_id = service.client.require(&key, &[]).await.unwrap().key_id().to_owned();
    service.admin().revoke_key(&key_id, "test").await.unwrap();
    let seen = send(&layer, bearer(key.expose())).await;
    assert_eq!((seen.status(), &seen.problem()["code"]), (401, &json!("REVOKED")));
}

#[tokio::test]
async fn ambiguous_credentials_are_rejected() {
    let service = Service::start().await;
    let key = service.key().await;
    let good = format!("Bearer {}", key.expose());
    let good = good.as_bytes();
    let layer = AuthenticateLayer::new(service.client.clone());
    for headers in [
        &[("authorization", good), ("authorization", good)][..],
        &[("authorization", good), ("authorization", b"Bearer other")],
        &[("authorization", good), ("mcp-session-id", b"a"), ("mcp-session-id", b"b")],
    ] {
        let seen = send(&layer, with(headers)).await;
        assert_eq!(
            (seen.status(), &seen.problem()["code"]),
            (400, &json!("AMBIGUOUS_REQUEST")),
            "{headers:?}"
        );
    }
    let key = key.expose().as_bytes();
    let layer = layer.header(HeaderName::from_static("x-api-key"));
    for headers in [
        &[("x-api-key", key), ("x-api-key", key)][..],
        &[("x-api-key", key), ("authorization", good), ("authorization", good)],
    ] {
        assert_eq!(send(&layer, with(headers)).await.status(), 400, "{headers:?}");
    }
}

#[tokio::test]
async fn one_key_in_two_headers_is_one_credential_over_http_and_grpc() {
    let service = Service::start().await;
    let key = service.key().await;
    let good = format!("Bearer {}", key.expose());
    let (good, plain) = (("authorization", good.as_bytes()), ("x-api-key", key.expose().as_bytes()));
    let layer =
        AuthenticateLayer::new(service.client.clone()).or_header(HeaderName::from_static("x-api-key"));
    let basic: (&str, &[u8]) = ("authorization", b"Basic dXNlcjpwYXNz");
    let other: (&str, &[u8]) = ("x-api-key", b"some-strange-key");
    for (headers, http, grpc) in [
        (&[good][..], 200, None),
        (&[plain], 200, None),
        (&[good, plain], 200, None),
        (&[basic, plain], 200, None),
        (&[good, other], 400, Some(Code::InvalidArgument)),
        (&[good, ("x-api-key", b"two keys")], 400, Some(Code::InvalidArgument)),
        (&[good, plain, plain], 400, Some(Code::InvalidArgument)),
        (&[basic], 401, Some(Code::Unauthenticated)),
    ] {
        assert_eq!(send(&layer, with(headers)).await.status(), http, "{headers:?}");
        let mut request = with(headers);
        request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        let seen = send(&layer, request).await;
        let code = Status::from_header_map(seen.response.headers()).map(|status| status.code());
        assert_eq!(code, grpc, "{headers:?}");
    }
}

#[tokio::test]
async fn exempt_paths_and_preflights_pass_without_a_principal() {
    let service = Service::start().await;
    let layer = AuthenticateLayer::new(service.client.clone()).exempt("/healthz");
    let request = |method: Method, path: &str| Request::builder().method(method).uri(path);
    let get = |path: &str| request(Method::GET, path).body(()).unwrap();
    for path in ["/healthz", "/healthz?verbose"] {
        let seen = send(&layer, get(path)).await;
        assert_eq!((seen.status(), seen.header("tenant")), (200, Some("nobody")), "{path}");
    }
    for path in ["/", "/healthz/", "/health", "/healthz/x", "/HEALTHZ"] {
        assert_eq!(send(&layer, get(path)).await.status(), 401, "{path}");
    }
    let without_origin =
        || request(Method::OPTIONS, "/orders").header("access-control-request-method", "POST");
    let preflight = || without_origin().header("origin", "https://app.example.com");
    let seen = send(&layer, preflight().body(()).unwrap()).await;
    assert_eq!((seen.status(), seen.header("tenant")), (200, Some("nobody")));
    let with_a_key = preflight().header("authorization", "Bearer some-strange-key").body(()).unwrap();
    assert_eq!(send(&layer, with_a_key).await.status(), 401);
    for no_preflight in [request(Method::OPTIONS, "/orders"), without_origin()] {
        assert_eq!(send(&layer, no_preflight.body(()).unwrap()).await.status(), 401);
    }
}

#[tokio::test]
async fn grpc_rejections_use_status_and_health_passes() {
    let service = Service::start().await;
    let key = service.key().await;
    let layer = AuthenticateLayer::new(service.client.clone()).exempt("/grpc.health.v1.Health/Check");
    let call = async |path: &str, headers: &[(&str, &[u8])]| {
        let mut request = with(headers);
        *request.uri_mut() = path.parse().unwrap();
        request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc+proto"));
        let seen = send(&layer, request).await;
        assert_eq!(seen.status(), StatusCode::OK);
        Status::from_header_map(seen.response.headers()).map(|status| status.code())
    };
    let good = format!("Bearer {}", key.expose());
    let good = ("authorization", good.as_bytes());
    assert_eq!(call("/grpc.health.v1.Health/Check", &[]).await, None);
    assert_eq!(call("/grpc.health.v1.Health/Watch", &[]).await, Some(Code::Unauthenticated));
    assert_eq!(call("/orders.v1.Orders/Get", &[good]).await, None);
    assert_eq!(call("/orders.v1.Orders/Get", &[good, good]).await, Some(Code::InvalidArgument));
    service.admin().suspend_tenant("acme", "test").await.unwrap();
    assert_eq!(call("/orders.v1.Orders/Get", &[good]).await, Some(Code::PermissionDenied));
}
