//! Connections in front of a stub service: their number, their limits, and how each one ends.

mod limits;
mod termination;

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

use crate::harness::{TestDatabase, TestService};

/// Maximum time to wait for an expected event.
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);
/// Longer than any test, so that something else ends it.
const LONGER_THAN_TEST: Duration = Duration::from_secs(300);

/// The path of a request that is answered at once.
const IMMEDIATE_PATH: &str = "/at-once";
/// The path of a request that is answered at once, with a long body.
const LONG_ANSWER_PATH: &str = "/long-answer";
/// The path of a request that is answered when [`StubServer::release`] is called.
const HELD_PATH: &str = "/held";

/// A server, and the signal that its held requests wait for.
struct StubServer {
    address: SocketAddr,
    server: Server,
    release: watch::Sender<bool>,
}

/// Limits that do not end a connection while a test runs.
fn unlimited_durations() -> ConnectionLimits {
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
    async fn start(limits: ConnectionLimits) -> Self {
        Self::start_with(ServerConfig { workers: 2, max_connections: 1_000, limits }, None).await
    }

    async fn start_with(config: ServerConfig, certificates: Option<Arc<Certificates>>) -> Self {
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

    fn release(&self) {
        self.release.send_replace(true);
    }

    fn connection_count(&self) -> usize {
        self.server.connections().open_per_worker().sum()
    }

    fn connections_per_worker(&self) -> Vec<usize> {
        self.server.connections().open_per_worker().collect()
    }

    async fn client(&self) -> Client {
        Client::connect_over(TcpStream::connect(self.address).await.unwrap()).await.unwrap()
    }
}

/// A well-behaved HTTP/2 peer.
struct Client {
    requests: SendRequest<Bytes>,
    /// The connection task, which ends with the connection. Its result is not deterministic: the final frames
    /// of both ends may cross.
    connection: JoinHandle<()>,
}

impl Client {
    async fn connect_over(
        io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Self, h2::Error> {
        let (requests, connection) = h2::client::handshake(io).await?;
        let connection = tokio::spawn(async { drop(connection.await) });
        Ok(Self { requests, connection })
    }

    async fn start_request(&mut self, request: Request<()>) -> Result<ResponseFuture, h2::Error> {
        let mut ready = self.requests.clone().ready().await?;
        ready.send_request(request, true).map(|(answer, _)| answer)
    }

    async fn send(&mut self, path: &str) -> Result<StatusCode, h2::Error> {
        self.start_request(post(path)).await?.await.map(|answer| answer.status())
    }

    /// Waits for the server to end the connection.
    async fn until_closed(self) {
        tokio::time::timeout(WAIT_TIMEOUT, self.connection).await.expect("the connection must end").unwrap();
    }
}

fn post(path: &str) -> Request<()> {
    Request::post(format!("http://localhost{path}")).body(()).unwrap()
}

/// Waits for a condition.
async fn wait_until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, waiting).await.expect("the condition must hold in time");
}

/// Waits until the peer has closed the stream, in any way.
async fn until_stream_closed(mut stream: impl AsyncRead + Unpin) {
    let mut buffer = Vec::new();
    let reading = stream.read_to_end(&mut buffer);
    let _ = tokio::time::timeout(WAIT_TIMEOUT, reading).await.expect("the stream must be closed");
}

fn assert_even(connections: &[usize], workers: usize, total: usize) {
    let (least, most) = (connections.iter().min().unwrap(), connections.iter().max().unwrap());
    assert_eq!((connections.len(), connections.iter().sum::<usize>()), (workers, total), "{connections:?}");
    assert!(most - least <= 1, "{connections:?}");
}

#[tokio::test]
async fn connections_are_spread_evenly_over_workers() {
    for workers in [2, 4] {
        for total in [3, 64] {
            let config = ServerConfig { workers, max_connections: 1_000, limits: unlimited_durations() };
            let host = StubServer::start_with(config, None).await;
            let mut clients = Vec::new();
            for _ in 0..total {
                let mut client = host.client().await;
                assert_eq!(client.send(IMMEDIATE_PATH).await.unwrap(), StatusCode::OK);
                clients.push(client);
            }
            assert_even(&host.connections_per_worker(), workers, total);

            // Workers accept in turn, so these connections are all on one worker. New connections even out
            // the load.
            let mut number = 0..;
            clients.retain(|_| number.next().is_some_and(|number| number % workers == 0));
            let kept = clients.len();
            wait_until(|| host.connection_count() == kept).await;
            assert!(host.connections_per_worker().contains(&kept), "{:?}", host.connections_per_worker());
            while clients.len() < total {
                let mut client = host.client().await;
                client.send(IMMEDIATE_PATH).await.unwrap();
                clients.push(client);
            }
            assert_even(&host.connections_per_worker(), workers, total);
        }
    }
}

#[tokio::test]
async fn service_starts_configured_number_of_workers() {
    for workers in [2, 4] {
        let settings =
            TestDatabase::embedded().settings().with_flag("TENANT_AUTH_WORKERS", Some(workers.to_string()));
        let service =
            TestService::start_with(settings, tenant_auth_svc::domain::clock::SystemClock::shared()).await;
        let mut clients = Vec::new();
        for _ in 0..3 {
            let stream = TcpStream::connect(service.running.address()).await.unwrap();
            let mut client = Client::connect_over(stream).await.unwrap();
            client.send("/").await.unwrap();
            clients.push(client);
        }
        assert_even(&service.running.connections_per_worker(), workers, 3);
    }
}

#[tokio::test]
async fn connection_over_limit_is_closed_until_another_ends() {
    let config = ServerConfig { workers: 2, max_connections: 2, limits: unlimited_durations() };
    let host = StubServer::start_with(config, None).await;
    let (mut first, mut second) = (host.client().await, host.client().await);
    for client in [&mut first, &mut second] {
        client.send(IMMEDIATE_PATH).await.unwrap();
    }
    for _ in 0..3 {
        until_stream_closed(TcpStream::connect(host.address).await.unwrap()).await;
    }
    assert_eq!(host.connection_count(), 2);
    second.send(IMMEDIATE_PATH).await.unwrap();

    drop(first.requests);
    first.connection.await.unwrap();
    wait_until(|| host.connection_count() == 1).await;
    host.client().await.send(IMMEDIATE_PATH).await.unwrap();
    second.send(IMMEDIATE_PATH).await.unwrap();
}
