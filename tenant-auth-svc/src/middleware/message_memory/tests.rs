//! Tests of which bytes are counted, for whom, and until when.

use std::convert::Infallible;

use futures::future::poll_fn;
use http_body_util::{BodyExt as _, Full as FullBody};
use tower::{ServiceExt as _, service_fn};

use super::*;

const LONG_MESSAGE_BYTES: usize = 1_024 * 1_024;

fn request(path: &str, length: usize) -> Request<tonic::body::Body> {
    let holder = PermitHolder { name: "api".into(), is_known: true };
    let body = tonic::body::Body::new(FullBody::new(Bytes::from(vec![0; length])));
    Request::builder().uri(path).extension(holder).body(body).unwrap()
}

/// Responds with the bytes of the request.
async fn echo(request: Request<tonic::body::Body>) -> Result<Response<tonic::body::Body>, Infallible> {
    let body = match request.into_body().collect().await {
        Ok(whole) => tonic::body::Body::new(FullBody::new(whole.to_bytes())),
        Err(status) => return Ok(status.into_http()),
    };
    Ok(Response::new(body))
}

fn status(response: &Response<MeasuredResponse<tonic::body::Body>>) -> Option<&str> {
    response.headers().get("grpc-status").and_then(|status| status.to_str().ok())
}

#[tokio::test]
async fn unread_responses_fill_only_their_callers_share() {
    let limiters = Limiters::new(100, 100, 50);
    let service = || MessageMemoryLayer::new(limiters.clone()).layer(service_fn(echo));
    let mut unread = Vec::new();
    let refused = loop {
        let response = service().oneshot(request("/any", LONG_MESSAGE_BYTES)).await.unwrap();
        match status(&response) {
            None => unread.push(response),
            Some(status) => break status.to_owned(),
        }
    };
    assert_eq!((refused.as_str(), unread.len()), ("8", 16), "RESOURCE_EXHAUSTED after 16 MiB");
    assert_eq!(limiters.response_bytes.taken(), 16 * LONG_MESSAGE_BYTES);
    assert_eq!(limiters.request_bytes.taken(), 0, "answered requests are no longer counted");
    let short = service().oneshot(request("/any", MAX_UNCOUNTED_BYTES)).await.unwrap();
    assert_eq!(status(&short), None, "short messages are not limited");

    // A response that is read releases its permit.
    let mut body = unread.pop().unwrap().into_body();
    let first = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.unwrap().unwrap();
    assert_eq!(
        (first.data_ref().unwrap().len(), limiters.response_bytes.taken()),
        (LONG_MESSAGE_BYTES, 16 * LONG_MESSAGE_BYTES)
    );
    assert!(poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.is_none());
    assert_eq!(limiters.response_bytes.taken(), 15 * LONG_MESSAGE_BYTES);
    drop(unread);
    assert_eq!(limiters.response_bytes.taken(), 0);
}

#[tokio::test]
async fn unfinished_requests_fill_only_their_callers_share() {
    let limiters = Limiters::new(100, 100, 50);
    let mut pending = Vec::new();
    for _ in 0..17 {
        let unfinished = request("/any", LONG_MESSAGE_BYTES).map(|body| {
            let never = futures::stream::pending();
            let frames = futures::StreamExt::chain(http_body_util::BodyStream::new(body), never);
            tonic::body::Body::new(http_body_util::StreamBody::new(frames))
        });
        let mut response =
            Box::pin(MessageMemoryLayer::new(limiters.clone()).layer(service_fn(echo)).oneshot(unfinished));
        match futures::poll!(&mut response) {
            Poll::Pending => pending.push(response),
            Poll::Ready(refused) => assert_eq!(status(&refused.unwrap()), Some("8")),
        }
    }
    assert_eq!((pending.len(), limiters.request_bytes.taken()), (16, 16 * LONG_MESSAGE_BYTES));
    drop(pending);
    assert_eq!(limiters.request_bytes.taken(), 0, "a dropped request releases its permit");
}
#[tokio::test]
async fn waiting_request_is_counted_until_it_is_answered() {
    let limiters = Limiters::new(100, 100, 50);
    let semaphore = tokio::sync::Semaphore::new(0);
    let waits = service_fn(async |request: Request<tonic::body::Body>| {
        let read = request.into_body().collect().await.map(|whole| whole.to_bytes().len());
        let _permit = semaphore.acquire().await;
        Ok::<_, Infallible>(Response::new(tonic::body::Body::new(format!("{read:?}"))))
    });
    let mut response = Box::pin(
        MessageMemoryLayer::new(limiters.clone()).layer(waits).oneshot(request("/any", LONG_MESSAGE_BYTES)),
    );
    assert!(futures::poll!(&mut response).is_pending());
    assert_eq!(
        limiters.request_bytes.taken(),
        LONG_MESSAGE_BYTES,
        "the body is read, but the decoded message still waits"
    );
    semaphore.add_permits(1);
    let _answer = response.await.unwrap();
    assert_eq!(limiters.request_bytes.taken(), 0);
}
