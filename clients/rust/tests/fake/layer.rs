//! The tower layer with a fake service, for verdicts and errors that the real service cannot be made to
//! return. Other cases are tested with the real service.

use std::convert::Infallible;

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tenant_auth_client::{AuthenticateLayer, AuthenticatedBody, Principal, proto as v1};
use tonic::{Code, Status, body::Body};
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::harness::{Pair, server::valid};

/// Sends a request through the layer to a service that responds with the tenant id.
async fn send(layer: &AuthenticateLayer, request: Request<()>) -> Response<AuthenticatedBody<Body>> {
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

async fn problem(response: Response<AuthenticatedBody<Body>>) -> Value {
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert_eq!(response.headers()["cache-control"], "no-store");
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

#[tokio::test]
async fn each_denial_has_its_http_status() {
    let pair = pair().await;
    let layer = AuthenticateLayer::new(pair.client.clone());
    for (key, status, code) in [
        ("VERDICT_EXPIRED", StatusCode::UNAUTHORIZED, "EXPIRED"),
        ("strange", StatusCode::FORBIDDEN, "UNRECOGNIZED(99)"),
        ("VERDICT_QUOTA_EXCEEDED", StatusCode::TOO_MANY_REQUESTS, "QUOTA_EXCEEDED"),
    ] {
        let response = send(&layer, with("authorization", &format!("Bearer {key}"))).await;
        assert_eq!(response.status(), status, "{key}");
        let has = |name: &str| response.headers().contains_key(name);
        assert_eq!(has("www-authenticate"), status == StatusCode::UNAUTHORIZED, "{key}");
        assert_eq!(has("retry-after"), status == StatusCode::TOO_MANY_REQUESTS, "{key}");
        assert_eq!(problem(response).await["code"], code);
    }
}

#[tokio::test]
async fn undecided_is_503_never_401() {
    let pair = pair().await;
    let layer = AuthenticateLayer::new(pair.client.clone());
    for status in [
        Status::internal("internal error"),
        Status::deadline_exceeded("late"),
        Status::resource_exhausted("too much"),
        Status::unauthenticated("unknown caller"),
        Status::invalid_argument("something"),
    ] {
        let code = status.code();
        pair.fake.fail(status);
        let response = send(&layer, with("authorization", "Bearer good")).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{code:?}");
        assert_eq!(response.headers()["retry-after"], "1", "{code:?}");
        assert_eq!(problem(response).await["code"], "UNDECIDED", "{code:?}");
    }
}

#[tokio::test]
async fn principal_of_the_layer_can_be_guarded_over_http_and_grpc() {
    let pair = pair().await;
    let layer = AuthenticateLayer::new(pair.client.clone()).requires("orders:read");
    for request in [with("authorization", "Bearer good"), grpc("good")] {
        let client = pair.client.clone();
        let inner = service_fn(move |request: Request<()>| {
            let guard = client.guard_connection(Principal::of(request.extensions()).unwrap());
            async move { Ok::<_, Infallible>(Response::new(guard.unwrap())) }
        });
        let response = layer.layer(inner).oneshot(request).await.unwrap();
        assert_eq!((response.status(), pair.client.guard_count()), (StatusCode::OK, 1));
    }
}

#[tokio::test]
async fn grpc_rejections_have_their_own_status() {
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
    pair.fake.fail(Status::internal("internal error"));
    assert_eq!(code("another").await, Some(Code::Unavailable));
}
