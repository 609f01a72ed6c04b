//! The tower layer, before an HTTP and a gRPC service.

use std::convert::Infallible;

use http::{HeaderName, Request, Response, StatusCode};
use tenant_auth_client::{AuthenticateLayer, Principal, proto as v1};
use tonic::{Code, Status, body::Body};
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::{Pair, server::valid};

/// Sends a request through the layer to a service that answers with the tenant's id.
async fn send(layer: &AuthenticateLayer, request: Request<()>) -> Response<Body> {
    let inner = service_fn(async |request: Request<()>| {
        let principal: &Principal = request.extensions().get().unwrap();
        let response = Response::builder().header("tenant", principal.tenant_id());
        Ok::<_, Infallible>(response.body(Body::default()).unwrap())
    });
    layer.layer(inner).oneshot(request).await.unwrap()
}

fn with(name: &str, value: &str) -> Request<()> {
    Request::builder().header(name, value).body(()).unwrap()
}

fn grpc(key: &str) -> Request<()> {
    let mut request = with("authorization", &format!("Bearer {key}"));
    request.headers_mut().insert("content-type", "application/grpc+proto".parse().unwrap());
    request
}

async fn pair() -> Pair {
    let pair = Pair::start().await;
    pair.fake.answer("good", valid("good"));
    for verdict in
        [v1::Verdict::Expired, v1::Verdict::Revoked, v1::Verdict::TenantSuspended, v1::Verdict::QuotaExceeded]
    {
        let answer = v1::ValidateKeyResponse { verdict: verdict.into(), ..valid("k") };
        pair.fake.answer(verdict.as_str_name(), answer);
    }
    pair.fake.answer("strange", v1::ValidateKeyResponse { verdict: 99, ..valid("k") });
    pair
}

#[tokio::test]
async fn a_good_key_goes_on_with_its_principal() {
    let pair = pair().await;
    let layer = AuthenticateLayer::new(pair.client.clone()).requires("orders:read");
    for value in ["Bearer good", "bearer  good"] {
        let response = send(&layer, with("authorization", value)).await;
        assert_eq!(response.status(), StatusCode::OK, "{value}");
        assert_eq!(response.headers()["tenant"], "acme", "{value}");
    }
    let layer = layer.header(HeaderName::from_static("x-api-key"));
    assert_eq!(send(&layer, with("x-api-key", "good")).await.status(), StatusCode::OK);
    assert_eq!(send(&layer, with("authorization", "Bearer good")).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn denials_have_a_status_each() {
    let pair = pair().await;
    let layer = AuthenticateLayer::new(pair.client.clone());
    let cases = [
        ("Bearer unknown", StatusCode::UNAUTHORIZED),
        ("Bearer VERDICT_EXPIRED", StatusCode::UNAUTHORIZED),
        ("Bearer VERDICT_REVOKED", StatusCode::UNAUTHORIZED),
        ("Bearer strange", StatusCode::UNAUTHORIZED),
        ("Bearer VERDICT_TENANT_SUSPENDED", StatusCode::FORBIDDEN),
        ("Bearer VERDICT_QUOTA_EXCEEDED", StatusCode::TOO_MANY_REQUESTS),
        ("Basic good", StatusCode::UNAUTHORIZED),
        ("Bearer ", StatusCode::UNAUTHORIZED),
        ("good", StatusCode::UNAUTHORIZED),
    ];
    for (value, expected) in cases {
        let response = send(&layer, with("authorization", value)).await;
        assert_eq!(response.status(), expected, "{value}");
        assert_eq!(
            response.headers().contains_key("www-authenticate"),
            expected == StatusCode::UNAUTHORIZED,
            "{value}"
        );
    }
    let layer = layer.requires("orders:write");
    let response = send(&layer, with("authorization", "Bearer good")).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    let challenge = "Bearer error=\"insufficient_scope\", scope=\"orders:write\"";
    assert_eq!(response.headers()["www-authenticate"], challenge);
}

#[tokio::test]
async fn a_service_that_does_not_know_is_503_and_never_401() {
    let pair = pair().await;
    let layer = AuthenticateLayer::new(pair.client.clone());
    for status in [
        Status::internal("a defect"),
        Status::deadline_exceeded("late"),
        Status::resource_exhausted("too much"),
        Status::unauthenticated("who are you?"),
        Status::invalid_argument("something"),
    ] {
        let code = status.code();
        pair.fake.fail(status);
        let response = send(&layer, with("authorization", "Bearer good")).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{code:?}");
        assert_eq!(response.headers()["retry-after"], "1", "{code:?}");
    }
}

#[tokio::test]
async fn grpc_callers_get_a_status_of_their_own() {
    let pair = pair().await;
    let layer = AuthenticateLayer::new(pair.client.clone());
    let code = async |key: &str| {
        let response = send(&layer, grpc(key)).await;
        assert_eq!(response.status(), StatusCode::OK);
        Status::from_header_map(response.headers()).map(|status| status.code())
    };
    assert_eq!(code("good").await, None);
    assert_eq!(code("unknown").await, Some(Code::Unauthenticated));
    assert_eq!(code("VERDICT_TENANT_SUSPENDED").await, Some(Code::PermissionDenied));
    assert_eq!(code("VERDICT_QUOTA_EXCEEDED").await, Some(Code::ResourceExhausted));
    pair.fake.fail(Status::internal("a defect"));
    assert_eq!(code("another").await, Some(Code::Unavailable));
}
