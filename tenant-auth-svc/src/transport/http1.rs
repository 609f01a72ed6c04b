//! HTTP/1.1 connections of the smaller servers: health and metrics, and front doors.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};
use tokio_io_timeout::TimeoutStream;
use tower::Service;

use super::{
    peer::Peer,
    tls::{self, Certificates},
};

/// How long in-flight requests may take at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// Size of the buffer for the headers of a request, in bytes. A request that does not fit, give or take a read, is refused.
const MAX_HEAD_BYTES: usize = 64 * 1_024;
/// Maximum number of headers of a request: proxies pass on those of their customers.
const MAX_HEADERS: usize = 256;
/// The maximum time in which a peer reads nothing although data waits.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Delay after the operating system failed to accept a connection.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// What happens to a connection when the maximum number is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest one is closed: a new client needs its answer now, and idle connections must not keep others out.
    CloseOldest,
    /// The new one is closed, so that its client uses another replica.
    CloseNew,
}

/// The limits of a server.
#[derive(Clone, Copy, Debug)]
pub struct Http1Limits {
    /// Maximum number of open connections.
    pub max_connections: usize,
    /// What happens beyond it.
    pub when_full: WhenFull,
    /// Maximum time for the TLS handshake, and then for the first request.
    pub first_request_timeout: Duration,
    /// Maximum time for the headers of each later request, since the response to the one before.
    pub idle_timeout: Duration,
    /// Maximum age of a connection, regardless of its activity.
    pub max_age: Duration,
}

/// Serves connections until `end`, then lets in-flight requests finish. Each request has its [`Peer`] in its extensions.
pub async fn serve<S, B>(
    listener: TcpListener,
    certificates: Option<Arc<Certificates>>,
    service: S,
    limits: Http1Limits,
    end: impl Future<Output = ()>,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let shutdown = watch::Sender::new(false);
    let mut open = OpenConnections::default();
    let mut is_full = false;
    let mut end = std::pin::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    let has_room = open.make_room(limits);
                    // Logged once, not for each refusal of a flood.
                    if !has_room && !std::mem::replace(&mut is_full, true) {
                        let limit = limits.max_connections;
                        tracing::warn!(limit, "HTTP connection limit reached, new connections are closed");
                    }
                    if has_room {
                        is_full = false;
                        let peer = Peer { address, certificate: None };
                        let connection = serve_stream(stream, peer, certificates.clone(), service.clone(), limits, shutdown.subscribe());
                        open.add(connection);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting an HTTP connection failed");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            },
            () = open.join_next() => {}
        }
    }
    drop(listener);
    shutdown.send_replace(true);
    let all_closed = async {
        while !open.tasks.is_empty() {
            open.join_next().await
        }
    };
    // A client that does not read its response is not waited for.
    let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, all_closed).await;
}

/// The open connections, in the order of their arrival.
#[derive(Default)]
struct OpenConnections {
    tasks: JoinSet<()>,
    by_age: VecDeque<AbortHandle>,
}

impl OpenConnections {
    fn add(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        let handle = self.tasks.spawn(connection);
        self.by_age.push_back(handle);
    }

    /// Returns whether another connection may be opened.
    fn make_room(&mut self, limits: Http1Limits) -> bool {
        let max_connections = limits.max_connections.max(1);
        if self.by_age.len() < max_connections {
            return true;
        }
        self.by_age.retain(|connection| !connection.is_finished());
        while self.by_age.len() >= max_connections && limits.when_full == WhenFull::CloseOldest {
            if let Some(oldest) = self.by_age.pop_front() {
                oldest.abort();
            }
        }
        self.by_age.len() < max_connections
    }

    /// Waits for the next connection to end; forever while there is none.
    async fn join_next(&mut self) {
        if self.tasks.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// Performs the TLS handshake, if there are certificates, and serves the connection.
async fn serve_stream<S, B>(
    stream: TcpStream,
    mut peer: Peer,
    certificates: Option<Arc<Certificates>>,
    service: S,
    limits: Http1Limits,
    shutdown: watch::Receiver<bool>,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone,
    B: Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // Responses are small and written at once, so there is nothing to wait for.
    let _ = stream.set_nodelay(true);
    let Some(certificates) = certificates else {
        return serve_connection(stream, peer, service, limits, shutdown).await;
    };
    match tokio::time::timeout(limits.first_request_timeout, certificates.handshake_http1(stream)).await {
        Ok(Ok(stream)) => {
            peer.certificate = tls::peer_certificate_names(&stream);
            serve_connection(stream, peer, service, limits, shutdown).await;
        }
        Ok(Err(error)) => tracing::info!(address = %peer.address, %error, "TLS handshake failed"),
        Err(_) => tracing::info!(address = %peer.address, "TLS handshake timed out"),
    }
}

async fn serve_connection<Io, S, B>(
    stream: Io,
    peer: Peer,
    service: S,
    limits: Http1Limits,
    mut shutdown: watch::Receiver<bool>,
) where
    Io: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone,
    B: Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let has_request = Arc::new(AtomicBool::new(false));
    let requests = WithPeer { inner: service, peer, has_request: Arc::clone(&has_request) };
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(UNREAD_TIMEOUT));
    let stream = TokioIo::new(Box::pin(stream));
    let mut connection = std::pin::pin!(http.serve_connection(stream, TowerToHyperService::new(requests)));
    let no_request = async {
        tokio::time::sleep(limits.first_request_timeout).await;
        if has_request.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        // No error of the connection needs handling: the client is gone.
        _ = &mut connection => {}
        () = tokio::time::sleep(limits.max_age) => {}
        () = no_request => {}
        // An error means that the sender was dropped, which is a shutdown too.
        () = async { drop(shutdown.wait_for(|is_shutdown| *is_shutdown).await) } => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// Adds the peer to each request, and notes that there was one.
#[derive(Clone)]
struct WithPeer<S> {
    inner: S,
    peer: Peer,
    has_request: Arc<AtomicBool>,
}

impl<S: Service<Request<Incoming>>> Service<Request<Incoming>> for WithPeer<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Incoming>) -> S::Future {
        self.has_request.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(self.peer.clone());
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, routing::get};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        time::Instant,
    };

    use super::*;

    const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

    fn limits(max_connections: usize, when_full: WhenFull) -> Http1Limits {
        Http1Limits {
            max_connections,
            when_full,
            first_request_timeout: Duration::from_secs(10),
            idle_timeout: IDLE_TIMEOUT,
            max_age: Duration::from_secs(300),
        }
    }

    async fn connect(max_connections: usize, when_full: WhenFull) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/", get(async || "ok"));
        let limits = limits(max_connections, when_full);
        tokio::spawn(serve(listener, None, routes, limits, std::future::pending()));
        address
    }

    /// Sends a part of a request, and returns after which time the server closed the connection.
    async fn time_until_closed(address: std::net::SocketAddr, request: &str) -> Duration {
        let started_at = Instant::now();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = Vec::new();
        let _ = stream.read_to_end(&mut response).await;
        started_at.elapsed()
    }

    /// Runs on tokio's paused clock, which advances to the next timer.
    #[tokio::test(start_paused = true)]
    async fn idle_http_connection_is_closed() {
        let address = connect(8, WhenFull::CloseOldest).await;
        for (request, limit) in [
            ("", 10),
            ("GET / HT", 10),
            ("GET / HTTP/1.1\r\nhost: x\r\n\r\n", 30),
            ("GET / HTTP/1.1\r\nhost: x\r\n\r\nGET", 30),
        ] {
            let closed_after = time_until_closed(address, request).await.as_secs();
            assert_eq!(closed_after, limit, "{request:?}");
        }
    }

    /// Requests without end, of which the peer reads no answer.
    #[tokio::test(start_paused = true)]
    async fn connection_of_a_peer_that_reads_nothing_is_closed() {
        let address = connect(8, WhenFull::CloseNew).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let requests = "GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1_000);
        let started_at = Instant::now();
        while stream.write_all(requests.as_bytes()).await.is_ok() {}
        assert!(started_at.elapsed() < Duration::from_secs(60), "{:?}", started_at.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn connection_over_the_limit_closes_the_oldest() {
        let address = connect(2, WhenFull::CloseOldest).await;
        let started_at = Instant::now();
        let mut oldest = TcpStream::connect(address).await.unwrap();
        let _others =
            [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        let mut response = Vec::new();
        let _ = oldest.read_to_end(&mut response).await;
        assert!(started_at.elapsed() < Duration::from_secs(1), "{:?}", started_at.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn connection_over_the_limit_is_closed_itself() {
        let address = connect(1, WhenFull::CloseNew).await;
        let _first = TcpStream::connect(address).await.unwrap();
        let closed_after = time_until_closed(address, "").await;
        assert!(closed_after < Duration::from_secs(1), "{closed_after:?}");
    }
}
