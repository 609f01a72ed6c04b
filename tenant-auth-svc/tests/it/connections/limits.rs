//! Limits of one connection: a connection that exceeds them harms only itself.

use std::time::Duration;

use http::{HeaderValue, StatusCode};
use tenant_auth_svc::transport::limits::ConnectionLimits;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::harness::{
    frames::{ENHANCE_YOUR_CALM, PeerEnding, REFUSED_STREAM, RawConnection},
    stub_server::{
        Client, HELD_PATH, IMMEDIATE_PATH, LONG_ANSWER_PATH, StubServer, post, unlimited_durations,
        until_stream_closed, wait_until,
    },
};

/// Shorter than any other limit here, and long enough for a busy machine to respond.
const SHORT_LIMIT: Duration = Duration::from_secs(1);

#[tokio::test]
async fn request_over_stream_limit_is_refused_and_others_continue() {
    let host = StubServer::start(unlimited_durations()).await;
    let mut polite = host.client().await;
    polite.send(IMMEDIATE_PATH).await.unwrap();
    assert_eq!(polite.requests.current_max_send_streams(), 200, "the server announces its limit");

    let mut frames = RawConnection::connect(host.address).await;
    for number in 0..201 {
        frames.open(2 * number + 1, HELD_PATH, false);
    }
    frames.send().await;
    assert_eq!(frames.next_ending().await, PeerEnding::Reset(401, REFUSED_STREAM));
    // A stream that ends frees its slot.
    frames.reset(1);
    frames.open(403, HELD_PATH, false);
    frames.open(405, HELD_PATH, false);
    frames.send().await;
    assert_eq!(frames.next_ending().await, PeerEnding::Reset(405, REFUSED_STREAM));
    assert_eq!(polite.send(IMMEDIATE_PATH).await.unwrap(), StatusCode::OK);
}

#[tokio::test]
async fn rapid_reset_closes_connection() {
    let host = StubServer::start(unlimited_durations()).await;
    let mut polite = host.client().await;
    polite.send(IMMEDIATE_PATH).await.unwrap();
    let mut frames = RawConnection::connect(host.address).await;
    for number in 0..2_000 {
        frames.open(2 * number + 1, HELD_PATH, false);
        frames.reset(2 * number + 1);
    }
    frames.send().await;
    assert_eq!(frames.next_ending().await, PeerEnding::GoAway(ENHANCE_YOUR_CALM));
    assert_eq!(frames.next_ending().await, PeerEnding::Closed);
    wait_until(|| host.connection_count() == 1).await;
    assert_eq!(polite.send(IMMEDIATE_PATH).await.unwrap(), StatusCode::OK);
}

/// A proxy with many callers sends such bursts when one of its clients disconnects.
#[tokio::test]
async fn bursts_of_cancelled_requests_keep_connection_open() {
    let host = StubServer::start(unlimited_durations()).await;
    let mut client = host.client().await;
    for _ in 0..100 {
        let mut given_up = Vec::new();
        for _ in 0..100 {
            given_up.push(client.start_request(post(HELD_PATH)).await.unwrap());
        }
        drop(given_up);
        for _ in 0..2 {
            assert_eq!(client.send(IMMEDIATE_PATH).await.unwrap(), StatusCode::OK);
        }
    }
    // The same in one write each, so that the server reads the resets before it handles any request.
    let mut frames = RawConnection::connect(host.address).await;
    let mut streams = (0..).map(|number| 2 * number + 1);
    for _ in 0..20 {
        for stream in streams.by_ref().take(100) {
            frames.open(stream, HELD_PATH, false);
            frames.reset(stream);
        }
        let asks = streams.next().unwrap();
        // Its body never arrives, so the stream is answered and at most reset.
        frames.open(asks, IMMEDIATE_PATH, true);
        frames.send().await;
        frames.until_response_head(asks).await;
    }
    assert_eq!(host.connection_count(), 2);
}

#[tokio::test]
async fn peer_cancelling_nearly_all_requests_is_closed() {
    let host = StubServer::start(ConnectionLimits { max_cancelled: 1_000, ..unlimited_durations() }).await;
    let mut polite = host.client().await;
    polite.send(IMMEDIATE_PATH).await.unwrap();
    let mut client = host.client().await;
    // Fewer at a time than any other limit allows.
    for _ in 0..100 {
        let mut given_up = Vec::new();
        for _ in 0..50 {
            match client.start_request(post(HELD_PATH)).await {
                Ok(answer) => given_up.push(answer),
                Err(_) => break,
            }
        }
        tokio::task::yield_now().await;
    }
    client.until_closed().await;
    wait_until(|| host.connection_count() == 1).await;
    assert_eq!(polite.send(IMMEDIATE_PATH).await.unwrap(), StatusCode::OK);
}

#[tokio::test]
async fn peer_reading_nothing_is_closed_but_not_for_one_response() {
    let host =
        StubServer::start(ConnectionLimits { unread_timeout: SHORT_LIMIT, ..unlimited_durations() }).await;
    let mut polite = host.client().await;
    polite.send(IMMEDIATE_PATH).await.unwrap();
    // A client with open windows may leave one response unread as long as it reads others.
    let unread = polite.start_request(post(LONG_ANSWER_PATH)).await.unwrap();
    let mut stalled = RawConnection::connect_with_closed_windows(host.address).await;
    for number in 0..100 {
        stalled.open(2 * number + 1, LONG_ANSWER_PATH, false);
    }
    stalled.send().await;
    while stalled.next_ending().await != PeerEnding::Closed {}
    wait_until(|| host.connection_count() == 1).await;
    assert_eq!(host.server.connections().counts().stalled.get(), 1);
    assert_eq!(polite.send(IMMEDIATE_PATH).await.unwrap(), StatusCode::OK);
    assert_eq!(unread.await.unwrap().status(), StatusCode::OK);
}

/// Each stream announces an empty body and then sends data. The server must reset it, which is work that
/// costs the peer nothing.
#[tokio::test]
async fn peer_forcing_stream_resets_is_closed() {
    let host = StubServer::start(ConnectionLimits { max_caused_resets: 16, ..unlimited_durations() }).await;
    let mut polite = host.client().await;
    polite.send(IMMEDIATE_PATH).await.unwrap();
    let mut frames = RawConnection::connect(host.address).await;
    for number in 0..64 {
        frames.open(2 * number + 1, HELD_PATH, true);
        frames.send_last_byte(2 * number + 1);
    }
    frames.send().await;
    let mut resets = 0;
    let end = loop {
        match frames.next_ending().await {
            PeerEnding::Reset(..) => resets += 1,
            end => break end,
        }
    };
    assert_eq!(end, PeerEnding::GoAway(ENHANCE_YOUR_CALM));
    assert!(resets <= 16, "{resets}");
    assert_eq!(polite.send(IMMEDIATE_PATH).await.unwrap(), StatusCode::OK);
}

#[tokio::test]
async fn oversized_request_head_is_refused_and_others_continue() {
    let host = StubServer::start(unlimited_durations()).await;
    let (mut polite, mut client) = (host.client().await, host.client().await);
    let padded = |bytes: usize| {
        let mut request = post(IMMEDIATE_PATH);
        let padding = HeaderValue::from_str(&"x".repeat(bytes)).unwrap();
        request.headers_mut().insert("padding", padding);
        request
    };
    let fits = client.start_request(padded(15 * 1_024)).await.unwrap().await.unwrap();
    assert_eq!(fits.status(), StatusCode::OK);
    let held = client.start_request(post(HELD_PATH)).await.unwrap();
    let refused = client.start_request(padded(17 * 1_024)).await.unwrap().await;
    let status = refused.expect("there must be a response").status();
    assert_eq!(status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert_eq!(client.send(IMMEDIATE_PATH).await.unwrap(), StatusCode::OK, "the connection is still usable");
    host.release();
    assert_eq!(held.await.unwrap().status(), StatusCode::OK);

    // Headers of a size that no client can intend end the connection.
    let absurd = async { client.start_request(padded(4 * 1_024 * 1_024)).await?.await };
    absurd.await.unwrap_err();
    assert_eq!(polite.send(IMMEDIATE_PATH).await.unwrap(), StatusCode::OK);
}

#[tokio::test]
async fn silent_peer_is_closed() {
    let host =
        StubServer::start(ConnectionLimits { handshake_timeout: SHORT_LIMIT, ..unlimited_durations() }).await;
    let mut polite = host.client().await;
    polite.send(IMMEDIATE_PATH).await.unwrap();
    let silent = TcpStream::connect(host.address).await.unwrap();
    let mut halting = TcpStream::connect(host.address).await.unwrap();
    halting.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    until_stream_closed(silent).await;
    until_stream_closed(halting).await;
    wait_until(|| host.connection_count() == 1).await;
    assert_eq!(
        polite.send(IMMEDIATE_PATH).await.unwrap(),
        StatusCode::OK,
        "after its preface a connection may be idle"
    );
}

#[tokio::test]
async fn peer_ignoring_pings_is_closed() {
    let host = StubServer::start(ConnectionLimits {
        keep_alive_interval: SHORT_LIMIT,
        keep_alive_timeout: SHORT_LIMIT,
        ..unlimited_durations()
    })
    .await;
    let mut polite = host.client().await;
    polite.send(IMMEDIATE_PATH).await.unwrap();
    let mut deaf = RawConnection::connect(host.address).await;
    deaf.open(1, HELD_PATH, false);
    deaf.send().await;
    while deaf.next_ending().await != PeerEnding::Closed {}
    assert_eq!(polite.send(IMMEDIATE_PATH).await.unwrap(), StatusCode::OK, "the client answers pings");
    wait_until(|| host.connection_count() == 1).await;
}

#[tokio::test]
async fn peer_with_other_protocol_is_closed() {
    let host = StubServer::start(unlimited_durations()).await;
    let mut http1 = TcpStream::connect(host.address).await.unwrap();
    http1.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    until_stream_closed(http1).await;
    let mut client = Client::connect_over(TcpStream::connect(host.address).await.unwrap()).await.unwrap();
    client.send(IMMEDIATE_PATH).await.unwrap();
}
