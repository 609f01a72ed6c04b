//! Serves one connection, from the first byte to its end.

mod preface;
mod request_counts;
mod watchdog;

use std::{
    cell::RefCell,
    convert::Infallible,
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::Poll,
};

use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::Service;

pub(super) use self::watchdog::AbuseReason;
use self::{request_counts::RequestCounts, watchdog::Watchdog};
use super::{
    limits::ConnectionLimits,
    peer::{Peer, PeerRequest},
    server::ConnectionCounts,
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Serves one connection until it ends. When `stop` completes, the server sends GOAWAY and completes the open
/// requests.
pub(super) async fn serve<Io, S, B>(
    io: Io,
    peer: Peer,
    service: S,
    limits: ConnectionLimits,
    counts: Arc<ConnectionCounts>,
    all_unread: Arc<AtomicU64>,
    stop: impl Future<Output = ()>,
) where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<PeerRequest, Response = Response<B>, Error = Infallible> + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let bytes_read = Arc::new(AtomicUsize::new(0));
    let io = preface::PrefaceCounter::new(io, Arc::clone(&bytes_read));
    // Borrowed only during a call, on one thread. The layers are always ready: none waits before a request
    // arrives.
    let service = RefCell::new(service);
    let request_counts = Arc::new(RequestCounts::new(all_unread));
    let mut watchdog = Watchdog::new(Arc::clone(&request_counts), &limits);
    let address = peer.address;
    let requests = service_fn(move |request: Request<Incoming>| {
        request_counts.track(service.borrow_mut().call(PeerRequest { peer: peer.clone(), request }))
    });
    let mut connection = pin!(http2_builder(&limits).serve_connection(TokioIo::new(io), requests));
    let mut stop = pin!(stop);
    let mut handshake_timeout = pin!(tokio::time::sleep(limits.handshake_timeout));
    let mut age = pin!(tokio::time::sleep(jitter(limits.max_age)));
    let mut handshake_done = false;
    let mut is_draining = false;
    let mut is_aged = false;
    loop {
        tokio::select! {
            // Polled together: every event of a request wakes the task of its connection.
            result = poll_fn(|cx| match connection.as_mut().poll(cx) {
                Poll::Ready(result) => Poll::Ready(Ok(result)),
                Poll::Pending => watchdog.poll(cx).map(Err),
            }) => {
                match result {
                    Ok(Ok(())) => {}
                    // Caused by the peer or the network. The open requests have ended with their own errors.
                    Ok(Err(error)) => tracing::debug!(%error, "connection ended with an error"),
                    Err(abuse) => {
                        counts.for_abuse(abuse).increment();
                        tracing::debug!(%address, ?abuse, "connection ended because of its peer");
                    }
                }
                return;
            }
            () = &mut handshake_timeout, if !handshake_done => {
                if bytes_read.load(Ordering::Relaxed) < preface::PREFACE_LEN {
                    tracing::debug!("connection closed: no HTTP/2 preface in time");
                    return;
                }
                handshake_done = true;
            }
            () = &mut stop, if !is_draining => {
                is_draining = true;
                connection.as_mut().graceful_shutdown();
            }
            () = &mut age => {
                if is_aged {
                    return;
                }
                is_aged = true;
                age.as_mut().reset(tokio::time::Instant::now() + limits.max_age_grace);
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

fn http2_builder(limits: &ConnectionLimits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_concurrent_streams)
        .max_pending_accept_reset_streams(limits.max_pending_resets)
        .max_local_error_reset_streams(limits.max_caused_resets)
        .max_header_list_size(limits.max_header_bytes)
        // A response is buffered up to this size. The next part of it is polled only after most of the buffer
        // was sent.
        .max_send_buf_size(limits.max_send_buffer_bytes)
        .keep_alive_interval(limits.keep_alive_interval)
        .keep_alive_timeout(limits.keep_alive_timeout)
        // gRPC does not use the header, and it would be written for every response.
        .auto_date_header(false);
    builder
}

/// Returns one to two times `age`, so that connections opened together do not end together.
fn jitter(age: std::time::Duration) -> std::time::Duration {
    let mut byte = [0_u8; 1];
    // Without random numbers, all connections end at the same age. That is no reason to refuse service.
    let _ = getrandom::fill(&mut byte);
    age + age.mul_f64(f64::from(byte[0]) / 255.0)
}
