//! What one connection may ask for: who asks for more harms itself alone.

use std::time::Duration;

use http::{HeaderValue, StatusCode};
use tenant_auth_svc::transport::limits::Limits;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::{AT_ONCE, Client, HELD, Host, LONG_ANSWER, closed, patient, post, until};
use crate::frames::{ENHANCE_YOUR_CALM, Frames, REFUSED_STREAM, Said};

/// Sooner than anything else ends a connection here, and late enough for a busy machine to say something.
const SOON: Duration = Duration::from_secs(1);

#[tokio::test]
async fn one_request_too_many_at_once_is_refused_and_the_others_go_on() {
    let host = Host::start(patient()).await;
    let mut polite = host.client().await;
    polite.ask(AT_ONCE).await.unwrap();
    assert_eq!(polite.requests.current_max_send_streams(), 200, "it is told");

    let mut frames = Frames::connect(host.address).await;
    for number in 0..201 {
        frames.open(2 * number + 1, HELD, false);
    }
    frames.send().await;
    assert_eq!(frames.said().await, Said::Reset(401, REFUSED_STREAM));
    // One that goes makes room for one.
    frames.reset(1);
    frames.open(403, HELD, false);
    frames.open(405, HELD, false);
    frames.send().await;
    assert_eq!(frames.said().await, Said::Reset(405, REFUSED_STREAM));
    assert_eq!(polite.ask(AT_ONCE).await.unwrap(), StatusCode::OK);
}

#[tokio::test]
async fn requests_opened_and_reset_in_a_rush_end_their_connection() {
    let host = Host::start(patient()).await;
    let mut polite = host.client().await;
    polite.ask(AT_ONCE).await.unwrap();
    let mut frames = Frames::connect(host.address).await;
    for number in 0..2_000 {
        frames.open(2 * number + 1, HELD, false);
        frames.reset(2 * number + 1);
    }
    frames.send().await;
    assert_eq!(frames.said().await, Said::GoAway(ENHANCE_YOUR_CALM));
    assert_eq!(frames.said().await, Said::Closed);
    until(|| host.live() == 1).await;
    assert_eq!(polite.ask(AT_ONCE).await.unwrap(), StatusCode::OK);
}

/// As a proxy does for many callers, whenever a client of it leaves.
#[tokio::test]
async fn a_hundred_requests_given_up_at_once_and_again_harm_nobody_on_their_connection() {
    let host = Host::start(patient()).await;
    let mut client = host.client().await;
    for _ in 0..100 {
        let mut given_up = Vec::new();
        for _ in 0..100 {
            given_up.push(client.begin(post(HELD)).await.unwrap());
        }
        drop(given_up);
        for _ in 0..2 {
            assert_eq!(client.ask(AT_ONCE).await.unwrap(), StatusCode::OK);
        }
    }
    // And in one write each, before any of them was looked at.
    let mut frames = Frames::connect(host.address).await;
    let mut streams = (0..).map(|number| 2 * number + 1);
    for _ in 0..20 {
        for stream in streams.by_ref().take(100) {
            frames.open(stream, HELD, false);
            frames.reset(stream);
        }
        let asks = streams.next().unwrap();
        // Its body never comes, so that it has an answer and is reset at most.
        frames.open(asks, AT_ONCE, true);
        frames.send().await;
        frames.answer(asks).await;
    }
    assert_eq!(host.live(), 2);
}

#[tokio::test]
async fn who_gives_up_nearly_everything_in_a_rush_is_closed() {
    let host = Host::start(Limits { cancelled: 1_000, ..patient() }).await;
    let mut polite = host.client().await;
    polite.ask(AT_ONCE).await.unwrap();
    let mut client = host.client().await;
    // Fewer at a time than any other bound knows.
    for _ in 0..100 {
        let mut given_up = Vec::new();
        for _ in 0..50 {
            match client.begin(post(HELD)).await {
                Ok(answer) => given_up.push(answer),
                Err(_) => break,
            }
        }
        tokio::task::yield_now().await;
    }
    client.ended().await;
    until(|| host.live() == 1).await;
    assert_eq!(polite.ask(AT_ONCE).await.unwrap(), StatusCode::OK);
}

#[tokio::test]
async fn who_reads_nothing_is_closed_and_who_reads_nothing_of_one_answer_is_not() {
    let host = Host::start(Limits { unread: SOON, ..patient() }).await;
    let mut polite = host.client().await;
    polite.ask(AT_ONCE).await.unwrap();
    // One whose windows are open asks for more than it looks at, and goes on.
    let unread = polite.begin(post(LONG_ANSWER)).await.unwrap();
    let mut stalled = Frames::connect_without_room(host.address).await;
    for number in 0..100 {
        stalled.open(2 * number + 1, LONG_ANSWER, false);
    }
    stalled.send().await;
    while stalled.said().await != Said::Closed {}
    until(|| host.live() == 1).await;
    assert_eq!(host.server.connections().counts().stalled.get(), 1);
    assert_eq!(polite.ask(AT_ONCE).await.unwrap(), StatusCode::OK);
    assert_eq!(unread.await.unwrap().status(), StatusCode::OK);
}

/// Each stream promises an empty body, and breaks the promise: we reset it, which is work that the peer does not pay.
#[tokio::test]
async fn a_peer_that_makes_us_reset_streams_ends_its_connection() {
    let host = Host::start(Limits { caused_resets: 16, ..patient() }).await;
    let mut polite = host.client().await;
    polite.ask(AT_ONCE).await.unwrap();
    let mut frames = Frames::connect(host.address).await;
    for number in 0..64 {
        frames.open(2 * number + 1, HELD, true);
        frames.byte(2 * number + 1);
    }
    frames.send().await;
    let mut resets = 0;
    let end = loop {
        match frames.said().await {
            Said::Reset(..) => resets += 1,
            end => break end,
        }
    };
    assert_eq!(end, Said::GoAway(ENHANCE_YOUR_CALM));
    assert!(resets <= 16, "{resets}");
    assert_eq!(polite.ask(AT_ONCE).await.unwrap(), StatusCode::OK);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_and_others_go_on() {
    let host = Host::start(patient()).await;
    let (mut polite, mut client) = (host.client().await, host.client().await);
    let padded = |bytes: usize| {
        let mut request = post(AT_ONCE);
        let padding = HeaderValue::from_str(&"x".repeat(bytes)).unwrap();
        request.headers_mut().insert("padding", padding);
        request
    };
    let fits = client.begin(padded(15 * 1_024)).await.unwrap().await.unwrap();
    assert_eq!(fits.status(), StatusCode::OK);
    let held = client.begin(post(HELD)).await.unwrap();
    let refused = client.begin(padded(17 * 1_024)).await.unwrap().await;
    let status = refused.expect("an answer").status();
    assert_eq!(status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert_eq!(client.ask(AT_ONCE).await.unwrap(), StatusCode::OK, "on the same connection, too");
    host.release();
    assert_eq!(held.await.unwrap().status(), StatusCode::OK);

    // So much of it that nobody can mean it ends the connection.
    let absurd = async { client.begin(padded(4 * 1_024 * 1_024)).await?.await };
    absurd.await.unwrap_err();
    assert_eq!(polite.ask(AT_ONCE).await.unwrap(), StatusCode::OK);
}

#[tokio::test]
async fn who_says_nothing_is_closed() {
    let host = Host::start(Limits { greeting: SOON, ..patient() }).await;
    let mut polite = host.client().await;
    polite.ask(AT_ONCE).await.unwrap();
    let silent = TcpStream::connect(host.address).await.unwrap();
    let mut halting = TcpStream::connect(host.address).await.unwrap();
    halting.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    closed(silent).await;
    closed(halting).await;
    until(|| host.live() == 1).await;
    assert_eq!(polite.ask(AT_ONCE).await.unwrap(), StatusCode::OK, "it has spoken, and may be silent");
}

#[tokio::test]
async fn who_does_not_answer_pings_is_closed() {
    let host = Host::start(Limits { ping_after: SOON, ping_timeout: SOON, ..patient() }).await;
    let mut polite = host.client().await;
    polite.ask(AT_ONCE).await.unwrap();
    let mut deaf = Frames::connect(host.address).await;
    deaf.open(1, HELD, false);
    deaf.send().await;
    while deaf.said().await != Said::Closed {}
    assert_eq!(polite.ask(AT_ONCE).await.unwrap(), StatusCode::OK, "it answers them");
    until(|| host.live() == 1).await;
}

#[tokio::test]
async fn who_speaks_another_protocol_is_closed() {
    let host = Host::start(patient()).await;
    let mut http1 = TcpStream::connect(host.address).await.unwrap();
    http1.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    closed(http1).await;
    let mut client = Client::over(TcpStream::connect(host.address).await.unwrap()).await.unwrap();
    client.ask(AT_ONCE).await.unwrap();
}
