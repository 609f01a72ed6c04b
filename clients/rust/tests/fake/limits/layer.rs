//! The layers with costs, and limits that the test sets.

use std::{convert::Infallible, time::Duration};

use http::{Request, Response, request::Parts};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tenant_auth_client::{
    AuthenticateLayer, AuthenticatedBody, Cost, Limits, McpLayer, Principal, proto as v1,
};
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt as _;
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::harness::Pair;
use crate::harness::limits::pair;

fn decision(name: &str) -> v1::LimitDecision {
    let millis = |millis| Some(Duration::from_millis(millis).try_into().unwrap());
    v1::LimitDecision {
        name: name.to_owned(),
        metric: "requests".to_owned(),
        limit: 100,
        remaining: 7,
        window: millis(3_600_000),
        reset_after: millis(1_799_001),
        ..Default::default()
    }
}

fn exceeded(name: &str, retry_after: Option<Duration>) -> v1::LimitDecision {
    v1::LimitDecision {
        remaining: 0,
        exceeded: true,
        retry_after: retry_after.map(|time| time.try_into().unwrap()),
        ..decision(name)
    }
}

fn request() -> Request<()> {
    Request::builder().uri("/orders").header("authorization", "Bearer k").body(()).unwrap()
}

fn grpc() -> Request<()> {
    let mut request = request();
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    request
}

/// Sends a request to a service that responds with the names of the limits that it saw.
async fn send(layer: &AuthenticateLayer, request: Request<()>) -> Response<AuthenticatedBody<Body>> {
    let inner = service_fn(async |request: Request<()>| {
        let names = Limits::of(request.extensions())
            .map(|limits| limits.iter().map(|limit| limit.name.clone()).collect::<Vec<_>>().join(" "));
        let tenant = Principal::of(request.extensions()).unwrap().tenant_id().to_owned();
        let response = Response::builder().header("seen", names.unwrap_or_default()).header("tenant", tenant);
        Ok::<_, Infallible>(response.body(Body::default()).unwrap())
    });
    layer.layer(inner).oneshot(request).await.unwrap()
}

fn layer(pair: &Pair) -> AuthenticateLayer {
    AuthenticateLayer::new(pair.client.clone()).costs([Cost::new("requests", 1)])
}

fn header<'a, B>(response: &'a Response<B>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn admitted_request_sees_its_limits_and_its_response_names_them() {
    let pair = pair().await;
    let shadow = v1::LimitDecision { shadow: true, ..exceeded("planned", None) };
    let credits = v1::LimitDecision { window: None, reset_after: None, ..decision("credits") };
    pair.fake.limits().decisions = Some(vec![credits, decision("hourly"), shadow]);
    let response = send(&layer(&pair), request()).await;
    assert_eq!((response.status().as_u16(), header(&response, "tenant")), (200, Some("acme")));
    assert_eq!(header(&response, "seen"), Some("credits hourly planned"));
    assert_eq!(header(&response, "ratelimit-policy"), Some(r#""credits";q=100, "hourly";q=100;w=3600"#));
    assert_eq!(header(&response, "ratelimit"), Some(r#""credits";r=7, "hourly";r=7;t=1800"#));
    let response = send(&layer(&pair), grpc()).await;
    assert_eq!(
        (header(&response, "seen"), header(&response, "ratelimit")),
        (Some("credits hourly planned"), None)
    );
}

#[tokio::test]
async fn denial_by_a_limit_is_429_with_a_time_if_one_is_known() {
    let pair = pair().await;
    let millis = Duration::from_millis;
    for (decisions, retry_after) in [
        (vec![exceeded("hourly", Some(millis(1_200_001)))], Some("1201")),
        (vec![exceeded("burst", Some(millis(1))), decision("hourly")], Some("1")),
        (vec![exceeded("burst", Some(millis(1))), exceeded("hourly", Some(millis(5_000)))], Some("5")),
        (vec![exceeded("burst", Some(millis(1))), exceeded("credits", None)], None),
    ] {
        pair.fake.limits().decisions = Some(decisions.clone());
        let response = send(&layer(&pair), request()).await;
        assert_eq!(response.status().as_u16(), 429, "{decisions:?}");
        assert_eq!(header(&response, "retry-after"), retry_after, "{decisions:?}");
        assert!(header(&response, "ratelimit").is_some() && header(&response, "ratelimit-policy").is_some());
        assert_eq!(header(&response, "cache-control"), Some("no-store"));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let problem: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&problem["code"], &problem["status"]), (&"QUOTA_EXCEEDED".into(), &429.into()));
    }
}

#[tokio::test]
async fn denial_by_a_limit_has_the_details_of_grpc() {
    let pair = pair().await;
    let time = Duration::from_millis(1_200);
    pair.fake.limits().decisions = Some(vec![exceeded("burst", Some(time)), decision("hourly")]);
    let response = send(&layer(&pair), grpc()).await;
    let status = Status::from_header_map(response.headers()).unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted);
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("QUOTA_EXCEEDED", "tenantauth"));
    assert_eq!(details.retry_info().unwrap().retry_delay, Some(time));
    let violations = &details.quota_failure().unwrap().violations;
    assert_eq!((violations.len(), violations[0].subject.as_str()), (1, "tenant:acme"));
    assert_eq!(violations[0].description, "burst: 0 of 100 requests are left");

    pair.fake.limits().decisions = Some(vec![exceeded("credits", None)]);
    let response = send(&layer(&pair), grpc()).await;
    let status = Status::from_header_map(response.headers()).unwrap();
    assert!(status.get_error_details().retry_info().is_none());
}

#[tokio::test]
async fn cost_of_a_request_decides_whether_and_what_it_takes() {
    let pair = pair().await;
    let layer = AuthenticateLayer::new(pair.client.clone()).costs_of(|request: &Parts| {
        let weight = request.headers.get("weight").and_then(|weight| weight.to_str().ok()?.parse().ok());
        weight.map(|weight| Cost::new("requests", weight)).into_iter().collect()
    });
    let weighing = |weight: &'static str| {
        let mut request = request();
        request.headers_mut().insert("weight", weight.parse().unwrap());
        request
    };
    let response = send(&layer, request()).await;
    assert_eq!((header(&response, "seen"), header(&response, "ratelimit")), (Some(""), None));
    assert_eq!(send(&layer, weighing("8")).await.status().as_u16(), 200);
    assert_eq!(send(&layer, weighing("3")).await.status().as_u16(), 429);
    assert_eq!(send(&layer, weighing("2")).await.status().as_u16(), 200);
    assert_eq!(pair.fake.requests_left(), 0);
}

#[tokio::test]
async fn undecided_limit_is_503_and_a_denied_key_takes_nothing() {
    let pair = pair().await;
    pair.fake.fail(Status::unavailable("undecided"));
    let response = send(&layer(&pair), request()).await;
    assert_eq!((response.status().as_u16(), header(&response, "retry-after")), (503, Some("1")));
    let left = pair.fake.requests_left();
    pair.fake
        .answer("k", v1::ValidateKeyResponse { verdict: v1::Verdict::Revoked.into(), ..Default::default() });
    let response = send(&layer(&pair), request()).await;
    assert_eq!((response.status().as_u16(), header(&response, "ratelimit")), (401, None));
    assert_eq!(pair.fake.requests_left(), left);
}

#[tokio::test]
async fn mcp_request_over_a_limit_is_429_before_the_server() {
    let pair = pair().await;
    let layer = McpLayer::builder(pair.client.clone()).costs([Cost::new("requests", 6)]).build().unwrap();
    let inner = service_fn(async |request: Request<_>| {
        assert_eq!(Limits::of(request.extensions()).unwrap()[0].name, "requests");
        Ok::<_, Infallible>(Response::new(Body::default()))
    });
    let post = || request().map(|()| Body::default());
    let response = layer.clone().layer(inner).oneshot(post()).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), header(&response, "ratelimit")),
        (200, Some(r#""requests";r=4"#))
    );
    let response = layer.layer(inner).oneshot(post()).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), header(&response, "ratelimit")),
        (429, Some(r#""requests";r=4"#))
    );
}

#[tokio::test]
async fn mcp_request_without_the_scopes_of_the_layer_takes_nothing() {
    let pair = pair().await;
    let lacking = v1::ValidateKeyResponse {
        verdict: v1::Verdict::InsufficientScope.into(),
        missing_scopes: vec!["admin".to_owned()],
        ..Default::default()
    };
    pair.fake.answer("k", lacking);
    let layer = McpLayer::builder(pair.client.clone()).requires("admin").costs([Cost::new("requests", 6)]);
    let inner = service_fn(async |_| Ok::<_, Infallible>(Response::new(Body::default())));
    let response =
        layer.build().unwrap().layer(inner).oneshot(request().map(|()| Body::default())).await.unwrap();
    let challenge = r#"Bearer error="insufficient_scope", scope="admin""#;
    assert_eq!((response.status().as_u16(), header(&response, "www-authenticate")), (403, Some(challenge)));
    assert_eq!(pair.fake.requests_left(), 10);
}
