//! The transport in front of a stub service, and HTTP/2 clients of it.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::{Request, Response, StatusCode};
use tenant_auth_svc::transport::{
    PeerRequest, Server, ServerConfig, limits::ConnectionLimits, tls::Certificates,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tonic::body::Body;

/// Maximum time to wait for an expected event.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_secs(30);
/// Longer than any test, so that something else ends it.
pub(crate) const LONGER_THAN_TEST: Duration = Duration::from_secs(300);
/// The path of a request that is answered at once.
pub(crate) const IMMEDIATE_PATH: &str = "/at-once";
/// The path of a request that is answered at once, with a long body.
pub(crate) const LONG_ANSWER_PATH: &str = "/long-answer";
/// The path of a request that is answered when [`StubServer::release`] is called.
pub(crate) const HELD_PATH: &str = "/held";

/// A server, and the signal that its held requests wait for.
pub(crate) struct StubServer {
    pub(crate) address: SocketAddr,
    pub(crate) server: Server,
    pub(crate) release: watch::Sender<bool>,
}

/// Limits that do not end a connection while a test runs.
pub(crate) fn unlimited_durations() -> ConnectionLimits {
    ConnectionLimits {
        handshake_timeout: LONGER_THAN_TEST,
        keep_alive_interval: LONGER_THAN_TEST,
        keep_alive_timeout: LONGER_THAN_TEST,
        max_age: LONGER_THAN_TEST,
        max_age_grace: LONGER_THAN_TEST,
        ..ConnectionLimits::default()
    }
}

impl StubServer {
    pub(crate) async fn start(limits: ConnectionLimits) -> Self {
        Self::start_with(ServerConfig { workers: 2, max_connections: 1_000, limits }, None).await
    }

    pub(crate) async fn start_with(config: ServerConfig, certificates: Option<Arc<Certificates>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let released = watch::Sender::new(false);
        let waiting = released.subscribe();
        let service = tower::service_fn(move |PeerRequest { request, .. }: PeerRequest| {
            let mut waiting = waiting.clone();
            async move {
                if request.uri().path() == HELD_PATH {
                    // An error means that the sender was dropped.
                    let _ = waiting.wait_for(|released| *released).await;
                }
                let body = match request.uri().path() == LONG_ANSWER_PATH {
                    true => Body::new(http_body_util::Full::new(Bytes::from_static(&[0; 1_024]))),
                    false => Body::empty(),
                };
                Ok::<_, Infallible>(Response::new(body))
            }
        });
        let server = Server::start(listener, certificates, service, config).unwrap();
        Self { address, server, release: released }
    }

    pub(crate) fn release(&self) {
        self.release.send_replace(true);
    }

    pub(crate) fn connection_count(&self) -> usize {
        self.server.connections().open_per_worker().sum()
    }

    pub(crate) fn connections_per_worker(&self) -> Vec<usize> {
        self.server.connections().open_per_worker().collect()
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect_over(TcpStream::connect(self.address).await.unwrap()).await.unwrap()
    }
}

/// A well-behaved HTTP/2 peer.
pub(crate) struct Client {
    pub(crate) requests: SendRequest<Bytes>,
    /// The connection task, which ends with the connection. Its result is not deterministic: the final frames
    /// of both ends may cross.
    pub(crate) connection: JoinHandle<()>,
}

impl Client {
    pub(crate) async fn connect_over(
        io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Self, h2::Error> {
        let (requests, connection) = h2::client::handshake(io).await?;
        let connection = tokio::spawn(async { drop(connection.await) });
        Ok(Self { requests, connection })
    }

    pub(crate) async fn start_request(&mut self, request: Request<()>) -> Result<ResponseFuture, h2::Error> {
        let mut ready = self.requests.clone().ready().await?;
        ready.send_request(request, true).map(|(answer, _)| answer)
    }

    pub(crate) async fn send(&mut self, path: &str) -> Result<StatusCode, h2::Error> {
        self.start_request(post(path)).await?.await.map(|answer| answer.status())
    }

    /// Waits for the server to end the connection.
    pub(crate) async fn until_closed(self) {
        tokio::time::timeout(WAIT_TIMEOUT, self.connection).await.expect("the connection must end").unwrap();
    }
}

pub(crate) fn post(path: &str) -> Request<()> {
    Request::post(format!("http://localhost{path}")).body(()).unwrap()
}

/// Waits for a condition.
pub(crate) async fn wait_until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, waiting).await.expect("the condition must hold in time");
}

/// Waits until the peer has closed the stream, in any way.
pub(crate) async fn until_stream_closed(mut stream: impl AsyncRead + Unpin) {
    let mut buffer = Vec::new();
    let reading = stream.read_to_end(&mut buffer);
    let _ = tokio::time::timeout(WAIT_TIMEOUT, reading).await.expect("the stream must be closed");
}
