//! Connections, in front of a service that does next to nothing: how many, what one may ask for, and how each ends.

mod ends;
mod limits;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::{Request, Response, StatusCode};
use tenant_auth_svc::transport::{Arrived, Server, ServerConfig, limits::Limits, tls::Certificates};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tonic::body::Body;

use crate::harness::{Database, Service};

/// How long what has to happen may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than any test: it ends by something else.
const LONG: Duration = Duration::from_secs(300);

/// Answered at once.
const AT_ONCE: &str = "/at-once";
/// Answered at once, with a body.
const LONG_ANSWER: &str = "/long-answer";
/// Answered when [`Host::release`] is called.
const HELD: &str = "/held";

/// A server, and what its requests wait for.
struct Host {
    address: SocketAddr,
    server: Server,
    released: watch::Sender<bool>,
}

/// Limits that end nothing while a test runs.
fn patient() -> Limits {
    Limits {
        greeting: LONG,
        ping_after: LONG,
        ping_timeout: LONG,
        age: LONG,
        age_grace: LONG,
        ..Limits::default()
    }
}

impl Host {
    async fn start(limits: Limits) -> Self {
        Self::start_with(ServerConfig { workers: 2, max_connections: 1_000, limits }, None).await
    }

    async fn start_with(config: ServerConfig, certificates: Option<Arc<Certificates>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let released = watch::Sender::new(false);
        let waiting = released.subscribe();
        let service = tower::service_fn(move |Arrived { request, .. }: Arrived| {
            let mut waiting = waiting.clone();
            async move {
                if request.uri().path() == HELD {
                    // An error says that nobody is left to release it.
                    let _ = waiting.wait_for(|released| *released).await;
                }
                let body = match request.uri().path() == LONG_ANSWER {
                    true => Body::new(http_body_util::Full::new(Bytes::from_static(&[0; 1_024]))),
                    false => Body::empty(),
                };
                Ok::<_, Infallible>(Response::new(body))
            }
        });
        let server = Server::start(listener, certificates, service, config).unwrap();
        Self { address, server, released }
    }

    fn release(&self) {
        self.released.send_replace(true);
    }

    fn live(&self) -> usize {
        self.server.connections().live().sum()
    }

    fn each(&self) -> Vec<usize> {
        self.server.connections().live().collect()
    }

    async fn client(&self) -> Client {
        Client::over(TcpStream::connect(self.address).await.unwrap()).await.unwrap()
    }
}

/// A well-behaved HTTP/2 peer.
struct Client {
    requests: SendRequest<Bytes>,
    /// Ends with the connection. How it does is chance: the last words of the two ends may cross.
    connection: JoinHandle<()>,
}

impl Client {
    async fn over(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Result<Self, h2::Error> {
        let (requests, connection) = h2::client::handshake(io).await?;
        let connection = tokio::spawn(async { drop(connection.await) });
        Ok(Self { requests, connection })
    }

    async fn begin(&mut self, request: Request<()>) -> Result<ResponseFuture, h2::Error> {
        let mut ready = self.requests.clone().ready().await?;
        ready.send_request(request, true).map(|(answer, _)| answer)
    }

    async fn ask(&mut self, path: &str) -> Result<StatusCode, h2::Error> {
        self.begin(post(path)).await?.await.map(|answer| answer.status())
    }

    /// Waits for the other end to end the connection.
    async fn ended(self) {
        tokio::time::timeout(PATIENCE, self.connection).await.expect("it ends").unwrap();
    }
}

fn post(path: &str) -> Request<()> {
    Request::post(format!("http://localhost{path}")).body(()).unwrap()
}

/// Waits for a condition.
async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it must come to that");
}

/// Waits until the other end has closed, however it did.
async fn closed(mut stream: impl AsyncRead + Unpin) {
    let mut said = Vec::new();
    let reading = stream.read_to_end(&mut said);
    let _ = tokio::time::timeout(PATIENCE, reading).await.expect("it is closed");
}

fn assert_even(connections: &[usize], workers: usize, total: usize) {
    let (least, most) = (connections.iter().min().unwrap(), connections.iter().max().unwrap());
    assert_eq!((connections.len(), connections.iter().sum::<usize>()), (workers, total), "{connections:?}");
    assert!(most - least <= 1, "{connections:?}");
}

#[tokio::test]
async fn connections_are_spread_evenly() {
    for workers in [2, 4] {
        for total in [3, 64] {
            let config = ServerConfig { workers, max_connections: 1_000, limits: patient() };
            let host = Host::start_with(config, None).await;
            let mut clients = Vec::new();
            for _ in 0..total {
                let mut client = host.client().await;
                assert_eq!(client.ask(AT_ONCE).await.unwrap(), StatusCode::OK);
                clients.push(client);
            }
            assert_even(&host.each(), workers, total);

            // They came in turn, so these are all on one worker: those that come then even it out.
            let mut number = 0..;
            clients.retain(|_| number.next().is_some_and(|number| number % workers == 0));
            let kept = clients.len();
            until(|| host.live() == kept).await;
            assert!(host.each().contains(&kept), "{:?}", host.each());
            while clients.len() < total {
                let mut client = host.client().await;
                client.ask(AT_ONCE).await.unwrap();
                clients.push(client);
            }
            assert_even(&host.each(), workers, total);
        }
    }
}

#[tokio::test]
async fn the_service_has_as_many_workers_as_it_was_told() {
    for workers in [2, 4] {
        let settings =
            Database::embedded().settings().with_flag("TENANT_AUTH_WORKERS", Some(workers.to_string()));
        let service =
            Service::start_with(settings, tenant_auth_svc::domain::clock::SystemClock::shared()).await;
        let mut clients = Vec::new();
        for _ in 0..3 {
            let stream = TcpStream::connect(service.running.address()).await.unwrap();
            let mut client = Client::over(stream).await.unwrap();
            client.ask("/").await.unwrap();
            clients.push(client);
        }
        assert_even(&service.running.connections(), workers, 3);
    }
}

#[tokio::test]
async fn one_connection_too_many_is_closed_at_once_and_one_that_leaves_makes_room() {
    let config = ServerConfig { workers: 2, max_connections: 2, limits: patient() };
    let host = Host::start_with(config, None).await;
    let (mut first, mut second) = (host.client().await, host.client().await);
    for client in [&mut first, &mut second] {
        client.ask(AT_ONCE).await.unwrap();
    }
    for _ in 0..3 {
        closed(TcpStream::connect(host.address).await.unwrap()).await;
    }
    assert_eq!(host.live(), 2);
    second.ask(AT_ONCE).await.unwrap();

    drop(first.requests);
    first.connection.await.unwrap();
    until(|| host.live() == 1).await;
    host.client().await.ask(AT_ONCE).await.unwrap();
    second.ask(AT_ONCE).await.unwrap();
}
