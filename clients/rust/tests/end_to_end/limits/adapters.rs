//! The layers with costs, before services that see their limits.

use std::convert::Infallible;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tenant_auth_client::{AuthenticateLayer, Cost, Limits, McpLayer, PresentedKey};
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt as _;
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::harness::limits::limited;

fn request(key: &PresentedKey, content_type: &str) -> Request<Body> {
    Request::builder()
        .uri("/orders")
        .header("authorization", format!("Bearer {}", key.expose()))
        .header("content-type", content_type)
        .body(Body::default())
        .unwrap()
}

/// Responds with the name of the limit that it sees.
async fn respond<B>(request: Request<B>) -> Result<Response<Body>, Infallible> {
    let limits = Limits::of(request.extensions()).unwrap();
    Ok(Response::builder().header("seen", &limits[0].name).body(Body::default()).unwrap())
}

fn header<'a, B>(response: &'a Response<B>, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn requests_take_their_costs_over_http_and_grpc() {
    let (service, key) = limited(3).await;
    let layer = AuthenticateLayer::new(service.client.clone())
        .requires("orders:read")
        .costs([Cost::new("requests", 1)]);
    let send = async |content_type| {
        layer.layer(service_fn(respond)).oneshot(request(&key, content_type)).await.unwrap()
    };
    for _ in 0..2 {
        let response = send("application/json").await;
        assert_eq!((response.status().as_u16(), header(&response, "seen")), (200, "hourly"));
        assert_eq!(header(&response, "ratelimit-policy"), r#""hourly";q=3;w=3600"#);
        assert!(header(&response, "ratelimit").starts_with(r#""hourly";r="#));
    }
    assert_eq!(header(&send("application/grpc").await, "seen"), "hourly");

    let response = send("application/json").await;
    assert_eq!(response.status().as_u16(), 429);
    let retry_after: u64 = header(&response, "retry-after").parse().unwrap();
    assert!((1..=3_900).contains(&retry_after), "{retry_after}");
    assert!(header(&response, "ratelimit").starts_with(r#""hourly";r=0"#));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["code"], "QUOTA_EXCEEDED");

    let response = send("application/grpc").await;
    let status = Status::from_header_map(response.headers()).unwrap();
    let details = status.get_error_details();
    assert_eq!(
        (status.code(), details.error_info().unwrap().reason.as_str()),
        (Code::ResourceExhausted, "QUOTA_EXCEEDED")
    );
    assert_eq!(details.quota_failure().unwrap().violations[0].subject, "tenant:acme");
    assert!(details.retry_info().is_some());
}

#[tokio::test]
async fn mcp_requests_take_their_costs() {
    let (service, key) = limited(1).await;
    let layer = McpLayer::builder(service.client.clone()).costs([Cost::new("requests", 1)]).build().unwrap();
    let send = async || {
        layer.clone().layer(service_fn(respond)).oneshot(request(&key, "application/json")).await.unwrap()
    };
    let response = send().await;
    assert_eq!((response.status().as_u16(), header(&response, "seen")), (200, "hourly"));
    let response = send().await;
    assert_eq!((response.status().as_u16(), header(&response, "seen")), (429, ""));
    assert!(!header(&response, "retry-after").is_empty() && !header(&response, "ratelimit").is_empty());
}
