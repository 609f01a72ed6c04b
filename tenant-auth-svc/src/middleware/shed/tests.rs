//! Who is refused, who gets through, and that every place is given back.

use std::{convert::Infallible, future::pending};

use futures::{FutureExt as _, future::poll_fn};
use tower::{ServiceExt as _, service_fn};

use super::*;

const VALIDATE: &str = "/tenantauth.v1.ValidationService/ValidateKey";

fn to(path: &str) -> Request<()> {
    Request::builder().uri(path).extension(api()).body(()).unwrap()
}

/// What the inner service does is told by the method's name; its answer is a body of one frame.
async fn inner(request: Request<()>) -> Result<Response<String>, &'static str> {
    match request.uri().path().rsplit('/').next() {
        Some("Hang") => pending().await,
        Some("Panic") => panic!("as asked"),
        Some("Fail") => Err("as asked"),
        Some("Open") => {
            request.extensions().get::<Arc<Place>>().unwrap().release();
            Ok(Response::new("answer".to_owned()))
        }
        _ => Ok(Response::new("answer".to_owned())),
    }
}

fn shed(pools: &Pools) -> Shed<impl Service<Request<()>, Response = Response<String>, Future: Send>> {
    ShedLayer::new(pools.clone()).layer(service_fn(inner))
}

fn one() -> Pools {
    Pools::new(1, 1, 100)
}

fn api() -> Holder {
    Holder { name: "api".into(), is_known: true }
}

fn is_free(pools: &Pools) -> bool {
    pools.requests.take(&api(), 1).is_ok()
}

#[tokio::test]
async fn a_place_is_kept_until_the_body_ends() {
    let pools = one();
    let response = shed(&pools).oneshot(to(VALIDATE)).await.unwrap_or_else(|_| panic!("it answers"));
    let mut body = response.into_body();
    let mut frame = async || poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
    assert!(frame().await.unwrap().unwrap().is_data());
    assert!(!is_free(&pools));
    assert!(frame().await.is_none());
    assert!(is_free(&pools), "though the body is still there");
}

#[tokio::test]
async fn without_a_place_a_request_is_refused_and_does_not_come_through() {
    let pools = one();
    let _taken = pools.requests.take(&api(), 1);
    let must_not = service_fn(async |_: Request<()>| -> Result<Response<String>, Infallible> {
        panic!("it came through")
    });
    let refused = ShedLayer::new(pools).layer(must_not).oneshot(to(VALIDATE)).await.unwrap();
    assert_eq!(refused.headers()["grpc-status"], "8", "RESOURCE_EXHAUSTED, in the headers");
    assert!(refused.body().is_end_stream());
}

#[tokio::test]
async fn however_a_request_ends_its_place_is_free() {
    let pools = one();
    let call = |method: &str| shed(&pools).oneshot(to(&format!("/tenantauth.v1.UsageService/{method}")));
    let answered = call("Answer").await;
    assert!(!is_free(&pools));
    drop(answered);
    assert!(is_free(&pools), "the answer was not read to its end");
    assert!(call("Fail").await.is_err());
    assert!(is_free(&pools));
    let hanging = call("Hang").now_or_never();
    assert!(hanging.is_none() && is_free(&pools), "the caller has left");
    assert!(std::panic::AssertUnwindSafe(call("Panic")).catch_unwind().await.is_err());
    assert!(is_free(&pools));
    let open = call("Open").await;
    assert!(open.is_ok() && is_free(&pools), "a stream gave its place back");
    let other = pools.requests.take(&api(), 1);
    drop(open);
    assert!(!is_free(&pools), "and not for a second time at its end");
    drop(other);
}

#[tokio::test]
async fn probes_and_operators_need_no_place() {
    let pools = one();
    let _taken = pools.requests.take(&api(), 1);
    let free = SERVICES.iter().filter(|(_, side)| *side == Side::Free);
    for (service, _) in free {
        let answer = shed(&pools).oneshot(to(&format!("/{service}/Any"))).await;
        assert!(answer.is_ok_and(|answer| answer.body().body == "answer"), "{service}");
    }
}

#[tokio::test]
async fn a_stream_of_any_service_keeps_its_place_to_its_end() {
    for path in STREAMS {
        let pools = one();
        let open = shed(&pools).oneshot(to(path)).await;
        assert_eq!(pools.streams.taken(), 1, "{path}");
        let refused = shed(&pools).oneshot(to(path)).await.ok().unwrap();
        assert_eq!(refused.headers()["grpc-status"], "8", "{path}");
        drop(open);
        assert_eq!(pools.named().map(|(_, places)| places.taken()), [0; 5]);
    }
}

#[tokio::test]
async fn strangers_leave_operators_and_probes_from_elsewhere_their_places() {
    const CHECK: &str = "/grpc.health.v1.Health/Check";
    let pools = one();
    let from = |address: &str| {
        let stranger = Holder { name: address.into(), is_known: false };
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
    for other in [from("10.0.0.2"), to(CHECK)] {
        let answer = shed(&pools).oneshot(other).await.ok().unwrap();
        assert!(!answer.headers().contains_key("grpc-status"));
    }
}

#[test]
fn what_nobody_knows_is_bounded() {
    assert_eq!(side("/grpc.health.v1.Health/Check"), Side::Free);
    for path in ["/", "", "/grpc.health.v1.Health", "/grpc.health.v1.HealthX/Check", "/made.up.Service/X"] {
        assert_eq!(side(path), Side::Bounded, "{path}");
    }
}
