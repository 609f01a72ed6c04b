//! The kinds of guarded streams: what they pass on, how they end, and what they release.

use std::convert::Infallible;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tenant_auth_client::{Error, PresentedKey, proto as v1};
use tokio::time::timeout;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use v1::InvalidationScope::Key;

use crate::harness::{
    Pair, SECOND,
    guards::{at, denied, principal},
    server::valid,
    until,
};

#[tokio::test]
async fn guard_is_released_when_the_stream_ends_or_its_reader_leaves() {
    let pair = Pair::watched().await;
    pair.fake.answer("a", valid("a"));
    let principal = principal(&pair.client, "a").await;
    let mut guarded = pair.client.guard(&principal, stream::iter([1, 2])).unwrap();
    let left = pair.client.guard(&principal, stream::pending::<u8>()).unwrap();
    assert_eq!(pair.client.guard_count(), 2);
    drop(left);
    assert_eq!(pair.client.guard_count(), 1);
    assert_eq!(guarded.by_ref().collect::<Vec<_>>().await, [Ok(1), Ok(2)]);
    assert_eq!(pair.client.guard_count(), 0);
    assert_eq!(guarded.next().await, None);
}

#[tokio::test]
async fn guarded_stream_takes_no_item_before_its_reader_asks() {
    let pair = Pair::watched().await;
    pair.fake.answer("a", valid("a"));
    let taken = std::sync::atomic::AtomicU32::new(0);
    let order = std::sync::atomic::Ordering::SeqCst;
    let source = stream::iter(0..3).inspect(|_| {
        taken.fetch_add(1, order);
    });
    let mut guarded = pair.client.guard(&principal(&pair.client, "a").await, source).unwrap();
    for expected in 0..3 {
        assert_eq!(taken.load(order), expected);
        assert_eq!(guarded.next().await, Some(Ok(expected)));
    }
}

#[tokio::test]
async fn grpc_stream_ends_with_the_status_of_the_denial() {
    let pair = Pair::watched().await;
    for (verdict, code, revision) in [
        (v1::Verdict::Revoked, Code::Unauthenticated, 2),
        (v1::Verdict::TenantSuspended, Code::PermissionDenied, 3),
        (v1::Verdict::QuotaExceeded, Code::ResourceExhausted, 4),
    ] {
        let key = verdict.as_str_name();
        pair.fake.answer(key, at(revision - 1, valid(key)));
        let principal = principal(&pair.client, key).await;
        let source = stream::iter([Ok(1), Err(Status::aborted("own"))]).chain(stream::pending());
        let mut guarded = pair.client.guard_grpc(&principal, source).unwrap();
        assert_eq!(guarded.next().await.unwrap().unwrap(), 1);
        assert_eq!(guarded.next().await.unwrap().unwrap_err().code(), Code::Aborted);
        pair.fake.answer(key, at(revision, denied(verdict, valid(key))));
        pair.fake.invalidate(revision, Key, &format!("key_{key}"));
        let status = timeout(SECOND * 60, guarded.next()).await.unwrap().unwrap().unwrap_err();
        assert_eq!(status.code(), code);
        let reason = status.get_error_details().error_info().unwrap().reason.clone();
        assert_eq!(format!("VERDICT_{reason}"), key);
        assert!(guarded.next().await.is_none());
    }
}

#[tokio::test]
async fn event_stream_ends_with_an_event() {
    let pair = Pair::watched().await;
    pair.fake.answer("a", valid("a"));
    let principal = principal(&pair.client, "a").await;
    let first = Frame::data(Bytes::from_static(b"data: 1\n\n"));
    let source = stream::iter([Ok::<_, Infallible>(first)]).chain(stream::pending());
    let mut body = pair.client.guard_sse(&principal, StreamBody::new(source)).unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "data: 1\n\n");
    pair.fake.answer("a", at(2, denied(v1::Verdict::Revoked, valid("a"))));
    pair.fake.invalidate(2, Key, "key_a");
    let rest = timeout(SECOND * 60, body.collect()).await.unwrap().unwrap().to_bytes();
    let data = str::from_utf8(&rest).unwrap().strip_prefix("event: end\ndata: ").unwrap();
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["code"], "REVOKED");
    assert!(data["detail"].as_str().unwrap().contains("REVOKED"));
}

#[tokio::test]
async fn principal_without_a_key_cannot_be_guarded_and_the_key_is_never_printed() {
    let pair = Pair::watched().await;
    pair.fake.answer("canary", valid("canary"));
    let bare = pair.client.require(&PresentedKey::new("canary"), &[]).await.unwrap();
    let Err(Error::Setup { message }) = pair.client.guard_connection(&bare) else {
        unreachable!("it was guarded")
    };
    assert!(message.contains("principal") && message.contains("require_guardable"), "{message}");
    let principal = principal(&pair.client, "canary").await;
    assert_eq!(principal, bare);
    let guarded = pair.client.guard(&principal, stream::pending::<()>()).unwrap();
    let printed = format!("{principal:?} {guarded:?}");
    assert!(!printed.replace("key_canary", "").contains("canary"), "{printed}");
    assert_streams_are_send(guarded);
    until(|| pair.client.guard_count() == 0).await;
}

fn assert_streams_are_send(_: impl Stream + Send + Unpin + 'static) {}
