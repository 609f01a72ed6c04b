//! The connections of those who look: few, and none that keeps another one out.

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

/// How long the head of a request may be in coming, the first one and each after it: longer than the 15 s between two looks
/// of a Prometheus, so that it keeps its connection.
const HEAD_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may live, whatever happens on it.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(300);
/// How long what is under way may take at the end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1_024;
/// How long to wait after the operating system could not give a connection.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Serves `sql_limit` connections at once until `end`, then lets what is under way finish. One more ends the oldest: whoever comes
/// now wants to know something now, and who holds connections open without asking anything can keep nobody out.
pub(super) async fn serve(listener: TcpListener, routes: Router, most: usize, end: impl Future<Output = ()>) {
    let ending = watch::Sender::new(false);
    let mut open = OpenConnections::default();
    let mut end = std::pin::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    open.evict_oldest(most);
                    open.add(serve_connection(stream, routes.clone(), ending.subscribe()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection for health and metrics could not be accepted");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            },
            () = open.join_next() => {}
        }
    }
    drop(listener);
    ending.send_replace(true);
    let all = async {
        while !open.tasks.is_empty() {
            open.join_next().await
        }
    };
    // Who does not read what was asked for is not waited for.
    let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, all).await;
}

/// The connections, in the order in which they came.
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

    fn evict_oldest(&mut self, most: usize) {
        self.by_age.retain(|connection| !connection.is_finished());
        while self.by_age.len() >= most.max(1) {
            if let Some(oldest) = self.by_age.pop_front() {
                oldest.abort();
            }
        }
    }

    /// Waits for ever while there is none.
    async fn join_next(&mut self) {
        if self.tasks.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

async fn serve_connection(stream: TcpStream, routes: Router, mut ending: watch::Receiver<bool>) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_READ_TIMEOUT).max_buf_size(MAX_HEAD_BYTES);
    let mut served =
        std::pin::pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes)));
    tokio::select! {
        // Whatever ended it, nobody is left to be told.
        _ = &mut served => {}
        () = tokio::time::sleep(MAX_CONNECTION_AGE) => {}
        // An error means the same.
        () = async { drop(ending.wait_for(|ending| *ending).await) } => {
            served.as_mut().graceful_shutdown();
            let _ = served.await;
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

    async fn connect(most: usize) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/", get(async || "ok"));
        tokio::spawn(serve(listener, routes, most, std::future::pending()));
        address
    }

    /// The clock is tokio's own, which jumps to what is waited for.
    #[tokio::test(start_paused = true)]
    async fn idle_ops_connection_is_closed() {
        let address = connect(8).await;
        for begins in ["", "GET / HT", "GET / HTTP/1.1\r\nhost: x\r\n\r\n"] {
            let began = Instant::now();
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(begins.as_bytes()).await.unwrap();
            let mut said = Vec::new();
            let _ = stream.read_to_end(&mut said).await;
            assert!(
                (HEAD_READ_TIMEOUT..MAX_CONNECTION_AGE).contains(&began.elapsed()),
                "{begins:?}: {:?}",
                began.elapsed()
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ops_connection_over_the_limit_closes_the_oldest() {
        let address = connect(2).await;
        let began = Instant::now();
        let mut oldest = TcpStream::connect(address).await.unwrap();
        let _others =
            [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        let mut said = Vec::new();
        let _ = oldest.read_to_end(&mut said).await;
        assert!(began.elapsed() < HEAD_READ_TIMEOUT, "{:?}", began.elapsed());
    }
}
