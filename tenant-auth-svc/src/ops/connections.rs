//! The connections of the ops server: few, and none can keep another one out.

use std::{collections::VecDeque, future::Future, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};

/// Timeout of the headers of a request, the first one and each later one: longer than the 15 s between two scrapes of
/// Prometheus, so that it keeps its connection.
const HEAD_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum age of a connection, regardless of its activity.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(300);
/// How long in-flight requests may take at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of the request headers, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1_024;
/// Delay after the operating system failed to accept a connection.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Serves `max_connections` connections at once until `end`, then lets in-flight requests finish. One more connection
/// closes the oldest one: a new client needs its answer now, and idle connections must not keep others out.
pub(super) async fn serve(
    listener: TcpListener,
    routes: Router,
    max_connections: usize,
    end: impl Future<Output = ()>,
) {
    let shutdown = watch::Sender::new(false);
    let mut open = OpenConnections::default();
    let mut end = std::pin::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    open.evict_oldest(max_connections);
                    open.add(serve_connection(stream, routes.clone(), shutdown.subscribe()));
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection for health and metrics failed");
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

    fn evict_oldest(&mut self, max_connections: usize) {
        self.by_age.retain(|connection| !connection.is_finished());
        while self.by_age.len() >= max_connections.max(1) {
            if let Some(oldest) = self.by_age.pop_front() {
                oldest.abort();
            }
        }
    }

    /// Waits for the next connection to end; forever while there is none.
    async fn join_next(&mut self) {
        if self.tasks.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

async fn serve_connection(stream: TcpStream, routes: Router, mut shutdown: watch::Receiver<bool>) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_READ_TIMEOUT).max_buf_size(MAX_HEAD_BYTES);
    let mut connection =
        std::pin::pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes)));
    tokio::select! {
        // No error of the connection needs handling: the client is gone.
        _ = &mut connection => {}
        () = tokio::time::sleep(MAX_CONNECTION_AGE) => {}
        // An error means that the sender was dropped, which is a shutdown too.
        () = async { drop(shutdown.wait_for(|is_shutdown| *is_shutdown).await) } => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        time::Instant,
    };

    use super::*;

    async fn connect(max_connections: usize) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/", get(async || "ok"));
        tokio::spawn(serve(listener, routes, max_connections, std::future::pending()));
        address
    }

    /// Runs on tokio's paused clock, which advances to the next timer.
    #[tokio::test(start_paused = true)]
    async fn idle_ops_connection_is_closed() {
        let address = connect(8).await;
        for request in ["", "GET / HT", "GET / HTTP/1.1\r\nhost: x\r\n\r\n"] {
            let started_at = Instant::now();
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut response = Vec::new();
            let _ = stream.read_to_end(&mut response).await;
            assert!(
                (HEAD_READ_TIMEOUT..MAX_CONNECTION_AGE).contains(&started_at.elapsed()),
                "{request:?}: {:?}",
                started_at.elapsed()
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ops_connection_over_the_limit_closes_the_oldest() {
        let address = connect(2).await;
        let started_at = Instant::now();
        let mut oldest = TcpStream::connect(address).await.unwrap();
        let _others =
            [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        let mut response = Vec::new();
        let _ = oldest.read_to_end(&mut response).await;
        assert!(started_at.elapsed() < HEAD_READ_TIMEOUT, "{:?}", started_at.elapsed());
    }
}
