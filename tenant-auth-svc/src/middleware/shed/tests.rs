//! Tests of which requests are refused, and that every permit is released.

use std::{convert::Infallible, future::pending};

use futures::{FutureExt as _, future::poll_fn};
use tower::{ServiceExt as _, service_fn};

use super::*;

const VALIDATE_PATH: &str = "/tenantauth.v1.ValidationService/ValidateKey";

fn request_to(path: &str) -> Request<()> {
    Request::builder().uri(path).extension(api()).body(()).unwrap()
}

/// The method's name selects the behaviour of the inner service; its response is a body of one frame.
async fn inner(request: Request<()>) -> Result<Response<String>, &'static str> {
    match request.uri().path().rsplit('/').next() {
        Some("Hang") => pending().await,
        Some("Panic") => panic!("requested by the test"),
        Some("Fail") => Err("requested by the test"),
        Some("Open") => {
            request.extensions().get::<Arc<Permit>>().unwrap().release();
            Ok(Response::new("answer".to_owned()))
        }
        _ => Ok(Response::new("answer".to_owned())),
    }
}

fn shed(limiters: &Limiters) -> Shed<impl Service<Request<()>, Response = Response<String>, Future: Send>> {
    ShedLayer::new(limiters.clone()).layer(service_fn(inner))
}

fn single_permit_limiters() -> Limiters {
    Limiters::new(1, 1, 100)
}

fn api() -> PermitHolder {
    PermitHolder { name: "api".into(), is_known: true }
}

fn has_free_permit(limiters: &Limiters) -> bool {
    limiters.requests.try_acquire(&api(), 1).is_ok()
}

#[tokio::test]
async fn permit_is_held_until_the_body_ends() {
    let limiters = single_permit_limiters();
    let response =
        shed(&limiters).oneshot(request_to(VALIDATE_PATH)).await.unwrap_or_else(|_| panic!("no response"));
    let mut body = response.into_body();
    let mut frame = async || poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
    assert!(frame().await.unwrap().unwrap().is_data());
    assert!(!has_free_permit(&limiters));
    assert!(frame().await.is_none());
    assert!(has_free_permit(&limiters), "the body is not dropped yet");
}

#[tokio::test]
async fn request_without_a_permit_is_refused_before_its_handler() {
    let limiters = single_permit_limiters();
    let _taken = limiters.requests.try_acquire(&api(), 1);
    let must_not = service_fn(async |_: Request<()>| -> Result<Response<String>, Infallible> {
        panic!("the handler was called")
    });
    let refused = ShedLayer::new(limiters).layer(must_not).oneshot(request_to(VALIDATE_PATH)).await.unwrap();
    assert_eq!(refused.headers()["grpc-status"], "8", "RESOURCE_EXHAUSTED, in the headers");
    assert!(refused.body().is_end_stream());
}

#[tokio::test]
async fn permit_is_released_on_every_kind_of_end() {
    let limiters = single_permit_limiters();
    let call =
        |method: &str| shed(&limiters).oneshot(request_to(&format!("/tenantauth.v1.UsageService/{method}")));
    let answered = call("Answer").await;
    assert!(!has_free_permit(&limiters));
    drop(answered);
    assert!(has_free_permit(&limiters), "a dropped response releases its permit");
    assert!(call("Fail").await.is_err());
    assert!(has_free_permit(&limiters));
    let hanging = call("Hang").now_or_never();
    assert!(hanging.is_none() && has_free_permit(&limiters), "a dropped call releases its permit");
    assert!(std::panic::AssertUnwindSafe(call("Panic")).catch_unwind().await.is_err());
    assert!(has_free_permit(&limiters));
    let open = call("Open").await;
    assert!(open.is_ok() && has_free_permit(&limiters), "an open stream has released its request permit");
    let other = limiters.requests.try_acquire(&api(), 1);
    drop(open);
    assert!(!has_free_permit(&limiters), "the permit is not released twice");
    drop(other);
}

#[tokio::test]
async fn probes_and_operators_pass_when_requests_are_full() {
    let limiters = single_permit_limiters();
    let _taken = limiters.requests.try_acquire(&api(), 1);
    let operator_services =
        SERVICE_PERMIT_CLASSES.iter().filter(|(_, class)| *class == PermitClass::Operators);
    for (service, _) in operator_services {
        let answer = shed(&limiters).oneshot(request_to(&format!("/{service}/Any"))).await;
        assert!(answer.is_ok_and(|answer| answer.body().body == "answer"), "{service}");
    }
}

#[tokio::test]
async fn stream_of_any_service_holds_its_permit_to_its_end() {
    for path in STREAMING_RPCS {
        let limiters = single_permit_limiters();
        let open = shed(&limiters).oneshot(request_to(path)).await;
        assert_eq!(limiters.streams.taken(), 1, "{path}");
        let refused = shed(&limiters).oneshot(request_to(path)).await.ok().unwrap();
        assert_eq!(refused.headers()["grpc-status"], "8", "{path}");
        drop(open);
        assert_eq!(limiters.named().map(|(_, limiter)| limiter.taken()), [0; 5]);
    }
}

#[tokio::test]
async fn unknown_callers_of_one_address_leave_permits_to_others() {
    const CHECK: &str = "/grpc.health.v1.Health/Check";
    let limiters = single_permit_limiters();
    let from = |address: &str| {
        let unknown_caller = PermitHolder { name: address.into(), is_known: false };
        Request::builder().uri(CHECK).extension(unknown_caller).body(()).unwrap()
    };
    let mut held = Vec::new();
    loop {
        let answer = shed(&limiters).oneshot(from("10.0.0.1")).await.ok().unwrap();
        if answer.headers().contains_key("grpc-status") {
            break;
        }
        held.push(answer);
    }
    assert_eq!(held.len(), 32, "the limit of one address");
    for other in [from("10.0.0.2"), request_to(CHECK)] {
        let answer = shed(&limiters).oneshot(other).await.ok().unwrap();
        assert!(!answer.headers().contains_key("grpc-status"));
    }
}

#[test]
fn unknown_service_needs_a_request_permit() {
    assert_eq!(permit_class("/grpc.health.v1.Health/Check"), PermitClass::Operators);
    for path in ["/", "", "/grpc.health.v1.Health", "/grpc.health.v1.HealthX/Check", "/made.up.Service/X"] {
        assert_eq!(permit_class(path), PermitClass::Requests, "{path}");
    }
}
