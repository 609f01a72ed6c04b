//! A worker thread, which serves connections.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
};

use http::Response;
use http_body::Body;
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    task::JoinSet,
};
use tower::Service;

use super::{
    connection,
    limits::ConnectionLimits,
    peer::{Peer, PeerRequest},
    server::ConnectionCounts,
    tls::{self, Certificates},
};

/// The phase of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ServerPhase {
    /// The server accepts connections.
    Serving,
    /// The server accepts no connections and completes open requests.
    Draining,
    /// The server has stopped.
    Stopped,
}

/// A connection on its way to its worker.
pub(super) struct AcceptedConnection {
    pub(super) stream: std::net::TcpStream,
    pub(super) address: SocketAddr,
    /// Counts the connection until it is dropped.
    pub(super) guard: ConnectionGuard,
}

/// Adds one to a counter until it is dropped.
pub(super) struct ConnectionGuard(Arc<AtomicUsize>);

impl ConnectionGuard {
    pub(super) fn new(live: &Arc<AtomicUsize>) -> Self {
        live.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(live))
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The acceptor's handle of a worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) connection_sender: mpsc::UnboundedSender<AcceptedConnection>,
    pub(super) open_connections: Arc<AtomicUsize>,
}

/// The context of all workers.
#[derive(Clone)]
pub(super) struct WorkerContext<S> {
    pub(super) service: S,
    pub(super) certificates: Option<Arc<Certificates>>,
    pub(super) limits: ConnectionLimits,
    pub(super) counts: Arc<ConnectionCounts>,
    pub(super) phase: watch::Receiver<ServerPhase>,
    /// Nothing is ever sent: the channel closes when every worker has ended its last connection.
    pub(super) drained_sender: mpsc::Sender<Infallible>,
}

/// Starts the thread.
///
/// # Errors
/// If the operating system cannot start a thread, or cannot create its event queue.
pub(super) fn start<S, B>(number: usize, context: WorkerContext<S>) -> io::Result<Worker>
where
    S: Service<PeerRequest, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (accepted, received) = mpsc::unbounded_channel();
    thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(move || runtime.block_on(run(received, context)))?;
    Ok(Worker { connection_sender: accepted, open_connections: Arc::default() })
}

async fn run<S, B>(mut received: mpsc::UnboundedReceiver<AcceptedConnection>, context: WorkerContext<S>)
where
    S: Service<PeerRequest, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let WorkerContext { service, certificates, limits, counts, phase, drained_sender: drained } = context;
    let mut connections = JoinSet::new();
    let all_unread = Arc::new(AtomicU64::new(0));
    let mut draining = std::pin::pin!(wait_for_phase(phase.clone(), ServerPhase::Draining));
    loop {
        tokio::select! {
            () = &mut draining => break,
            accepted = received.recv() => match accepted {
                Some(accepted) => {
                    let stop = wait_for_phase(phase.clone(), ServerPhase::Draining);
                    let (certificates, counts) = (certificates.clone(), Arc::clone(&counts));
                    let unread = Arc::clone(&all_unread);
                    connections.spawn(serve_connection(accepted, certificates, service.clone(), limits, counts, unread, stop));
                }
                // The acceptor was dropped without a drain.
                None => break,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(received);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    let mut stopped = std::pin::pin!(wait_for_phase(phase, ServerPhase::Stopped));
    tokio::select! {
        () = all_ended => {
            drop(drained);
            // Connections to the database may be driven by this thread, and other threads may still use them.
            stopped.await;
        }
        () = &mut stopped => {}
    }
}

/// Performs the TLS handshake, if there are certificates, and serves the connection.
async fn serve_connection<S, B>(
    accepted: AcceptedConnection,
    certificates: Option<Arc<Certificates>>,
    service: S,
    limits: ConnectionLimits,
    counts: Arc<ConnectionCounts>,
    all_unread: Arc<AtomicU64>,
    stop: impl Future<Output = ()>,
) where
    S: Service<PeerRequest, Response = Response<B>, Error = Infallible>,
    S: Clone + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let AcceptedConnection { stream, address, guard } = accepted;
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!(%error, "connection not registered with its worker"),
    };
    match certificates {
        None => {
            let peer = Peer { address, certificate: None };
            connection::serve(stream, peer, service, limits, counts, all_unread, stop).await;
        }
        Some(certificates) => {
            let mut stop = std::pin::pin!(stop);
            let handshake = tokio::time::timeout(limits.handshake_timeout, certificates.handshake(stream));
            let done = tokio::select! {
                // No request was sent yet, so there is nothing to complete.
                () = &mut stop => return,
                done = handshake => done,
            };
            match done {
                Ok(Ok(stream)) => {
                    let peer = Peer { address, certificate: tls::peer_certificate_names(&stream) };
                    connection::serve(stream, peer, service, limits, counts, all_unread, stop).await;
                }
                Ok(Err(error)) => {
                    counts.handshakes_failed.increment();
                    tracing::info!(%address, %error, "TLS handshake failed");
                }
                Err(_) => {
                    counts.handshakes_timed_out.increment();
                    tracing::info!(%address, "TLS handshake timed out");
                }
            }
        }
    }
    drop(guard);
}

/// Waits for a phase, or a later one. Returns also if the sender is dropped, because then the server has
/// ended.
async fn wait_for_phase(mut phase: watch::Receiver<ServerPhase>, awaited: ServerPhase) {
    let _ = phase.wait_for(|now| *now >= awaited).await;
}
