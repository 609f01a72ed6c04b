//! One connection, from its first bytes to its end.

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

/// Serves one connection to its end. When `stop` completes, the peer is asked to open no more requests, and those
/// under way go on.
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
    let read = Arc::new(AtomicUsize::new(0));
    let io = preface::PrefaceCounter::new(io, Arc::clone(&read));
    // Borrowed for the length of a call, on one thread. Layers are always ready: none of them waits for anything before
    // a request has come.
    let service = RefCell::new(service);
    let vitals = Arc::new(RequestCounts::new(all_unread));
    let mut watchdog = Watchdog::new(Arc::clone(&vitals), &limits);
    let address = peer.address;
    let requests = service_fn(move |request: Request<Incoming>| {
        vitals.track(service.borrow_mut().call(PeerRequest { peer: peer.clone(), request }))
    });
    let mut connection = pin!(http2_builder(&limits).serve_connection(TokioIo::new(io), requests));
    let mut stop = pin!(stop);
    let mut greeting = pin!(tokio::time::sleep(limits.handshake_timeout));
    let mut age = pin!(tokio::time::sleep(jitter(limits.max_age)));
    let mut greeted = false;
    let mut ending = false;
    let mut aged = false;
    loop {
        tokio::select! {
            // Both at once: whatever happens to a request wakes its connection.
            ended = poll_fn(|cx| match connection.as_mut().poll(cx) {
                Poll::Ready(ended) => Poll::Ready(Ok(ended)),
                Poll::Pending => watchdog.poll(cx).map(Err),
            }) => {
                match ended {
                    Ok(Ok(())) => {}
                    // It is the peer's, or the network's; each request under way has noticed for itself.
                    Ok(Err(error)) => tracing::debug!(%error, "a connection ended early"),
                    Err(abuse) => {
                        counts.for_abuse(abuse).increment();
                        tracing::debug!(%address, ?abuse, "a connection was ended");
                    }
                }
                return;
            }
            () = &mut greeting, if !greeted => {
                if read.load(Ordering::Relaxed) < preface::PREFACE_LEN {
                    tracing::debug!("a connection was closed: it did not begin to speak HTTP/2");
                    return;
                }
                greeted = true;
            }
            () = &mut stop, if !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
            () = &mut age => {
                if aged {
                    return;
                }
                aged = true;
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
        // An answer is handed over in one piece, however long; the next piece only when most of this one has gone.
        .max_send_buf_size(limits.max_send_buffer_bytes)
        .keep_alive_interval(limits.keep_alive_interval)
        .keep_alive_timeout(limits.keep_alive_timeout)
        // gRPC has no use for it, and it would be written for every answer.
        .auto_date_header(false);
    builder
}

/// Once to twice as long: connections opened together do not end together.
fn jitter(age: std::time::Duration) -> std::time::Duration {
    let mut byte = [0_u8; 1];
    // Without random numbers, all at the same age: that is no reason to serve nobody.
    let _ = getrandom::fill(&mut byte);
    age + age.mul_f64(f64::from(byte[0]) / 255.0)
}
