//! Who is refused, who gets through, and that every place is given back.

use std::{convert::Infallible, future::pending};

use futures::{FutureExt as _, future::poll_fn};
use tower::{ServiceExt as _, service_fn};

use super::*;

const VALIDATE_PATH: &str = "/tenantauth.v1.ValidationService/ValidateKey";

fn request_to(path: &str) -> Request<()> {
    Request::builder().uri(path).extension(api()).body(()).unwrap()
}

/// What the inner service does is told by the method's name; its answer is a body of one frame.
async fn inner(request: Request<()>) -> Result<Response<String>, &'static str> {
    match request.uri().path().rsplit('/').next() {
        Some("Hang") => pending().await,
        Some("Panic") => panic!("as asked"),
        Some("Fail") => Err("as asked"),
        Some("Open") => {
            request.extensions().get::<Arc<Permit>>().unwrap().release();
            Ok(Response::new("answer".to_owned()))
        }
        _ => Ok(Response::new("answer".to_owned())),
    }
}

fn shed(pools: &Limiters) -> Shed<impl Service<Request<()>, Response = Response<String>, Future: Send>> {
    ShedLayer::new(pools.clone()).layer(service_fn(inner))
}

fn single_permit_limiters() -> Limiters {
    Limiters::new(1, 1, 100)
}

fn api() -> PermitHolder {
    PermitHolder { name: "api".into(), is_known: true }
}

fn has_free_permit(pools: &Limiters) -> bool {
    pools.requests.try_acquire(&api(), 1).is_ok()
}

#[tokio::test]
async fn permit_is_held_until_the_body_ends() {
    let pools = single_permit_limiters();
    let response =
        shed(&pools).oneshot(request_to(VALIDATE_PATH)).await.unwrap_or_else(|_| panic!("it answers"));
    let mut body = response.into_body();
    let mut frame = async || poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
    assert!(frame().await.unwrap().unwrap().is_data());
    assert!(!has_free_permit(&pools));
    assert!(frame().await.is_none());
    assert!(has_free_permit(&pools), "though the body is still there");
}

#[tokio::test]
async fn request_without_a_permit_is_refused_before_its_handler() {
    let pools = single_permit_limiters();
    let _taken = pools.requests.try_acquire(&api(), 1);
    let must_not = service_fn(async |_: Request<()>| -> Result<Response<String>, Infallible> {
        panic!("it came through")
    });
    let refused = ShedLayer::new(pools).layer(must_not).oneshot(request_to(VALIDATE_PATH)).await.unwrap();
    assert_eq!(refused.headers()["grpc-status"], "8", "RESOURCE_EXHAUSTED, in the headers");
    assert!(refused.body().is_end_stream());
}

#[tokio::test]
async fn permit_is_released_on_every_kind_of_end() {
    let pools = single_permit_limiters();
    let call =
        |method: &str| shed(&pools).oneshot(request_to(&format!("/tenantauth.v1.UsageService/{method}")));
    let answered = call("Answer").await;
    assert!(!has_free_permit(&pools));
    drop(answered);
    assert!(has_free_permit(&pools), "the answer was not read to its end");
    assert!(call("Fail").await.is_err());
    assert!(has_free_permit(&pools));
    let hanging = call("Hang").now_or_never();
    assert!(hanging.is_none() && has_free_permit(&pools), "the caller has left");
    assert!(std::panic::AssertUnwindSafe(call("Panic")).catch_unwind().await.is_err());
    assert!(has_free_permit(&pools));
    let open = call("Open").await;
    assert!(open.is_ok() && has_free_permit(&pools), "a stream gave its place back");
    let other = pools.requests.try_acquire(&api(), 1);
    drop(open);
    assert!(!has_free_permit(&pools), "and not for a second time at its end");
    drop(other);
}

#[tokio::test]
async fn probes_and_operators_pass_when_requests_are_full() {
    let pools = single_permit_limiters();
    let _taken = pools.requests.try_acquire(&api(), 1);
    let free = SERVICE_PERMIT_CLASSES.iter().filter(|(_, side)| *side == PermitClass::Operators);
    for (service, _) in free {
        let answer = shed(&pools).oneshot(request_to(&format!("/{service}/Any"))).await;
        assert!(answer.is_ok_and(|answer| answer.body().body == "answer"), "{service}");
    }
}

#[tokio::test]
async fn stream_of_any_service_holds_its_permit_to_its_end() {
    for path in STREAMING_RPCS {
        let pools = single_permit_limiters();
        let open = shed(&pools).oneshot(request_to(path)).await;
        assert_eq!(pools.streams.taken(), 1, "{path}");
        let refused = shed(&pools).oneshot(request_to(path)).await.ok().unwrap();
        assert_eq!(refused.headers()["grpc-status"], "8", "{path}");
        drop(open);
        assert_eq!(pools.named().map(|(_, places)| places.taken()), [0; 5]);
    }
}

#[tokio::test]
async fn unknown_callers_of_one_address_leave_permits_to_others() {
    const CHECK: &str = "/grpc.health.v1.Health/Check";
    let pools = single_permit_limiters();
    let from = |address: &str| {
        let stranger = PermitHolder { name: address.into(), is_known: false };
        Request::builder().uri(CHECK).extension(stranger).body(()).unwrap()
    };
    let mut held = Vec::new();
    loop {
        let answer = shed(&pools).oneshot(from("10.0.0.1")).await.ok().unwrap();
        if answer.headers().contains_key("grpc-status") {
            break;
        }
        held.push(answer);
    }
    assert_eq!(held.len(), 32, "of one address");
    for other in [from("10.0.0.2"), request_to(CHECK)] {
        let answer = shed(&pools).oneshot(other).await.ok().unwrap();
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
