//! A thread that serves connections.

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

/// How far the server's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ServerPhase {
    /// Connections are taken.
    Serving,
    /// No new ones; requests under way go on.
    Draining,
    /// Nothing goes on.
    Stopped,
}

/// A connection on its way to its worker.
pub(super) struct AcceptedConnection {
    pub(super) stream: std::net::TcpStream,
    pub(super) address: SocketAddr,
    /// Counts it for as long as it lives.
    pub(super) guard: ConnectionGuard,
}

/// One more, until it is dropped.
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

/// The end of a worker that the acceptor holds.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) connection_sender: mpsc::UnboundedSender<AcceptedConnection>,
    pub(super) open_connections: Arc<AtomicUsize>,
}

/// What every worker is told.
#[derive(Clone)]
pub(super) struct WorkerContext<S> {
    pub(super) service: S,
    pub(super) certificates: Option<Arc<Certificates>>,
    pub(super) limits: ConnectionLimits,
    pub(super) counts: Arc<ConnectionCounts>,
    pub(super) phase: watch::Receiver<ServerPhase>,
    /// Never sent to: it closes when every worker has let its last connection go.
    pub(super) drained_sender: mpsc::Sender<Infallible>,
}

/// Starts the thread.
///
/// # Errors
/// When the operating system gives no thread, or nothing to wait for sockets with.
pub(super) fn start<S, B>(number: usize, orders: WorkerContext<S>) -> io::Result<Worker>
where
    S: Service<PeerRequest, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (handed, received) = mpsc::unbounded_channel();
    thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(move || runtime.block_on(run(received, orders)))?;
    Ok(Worker { connection_sender: handed, open_connections: Arc::default() })
}

async fn run<S, B>(mut received: mpsc::UnboundedReceiver<AcceptedConnection>, orders: WorkerContext<S>)
where
    S: Service<PeerRequest, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let WorkerContext { service, certificates, limits, counts, phase, drained_sender: drained } = orders;
    let mut connections = JoinSet::new();
    let all_unread = Arc::new(AtomicU64::new(0));
    let mut draining = std::pin::pin!(wait_for_phase(phase.clone(), ServerPhase::Draining));
    loop {
        tokio::select! {
            () = &mut draining => break,
            handed = received.recv() => match handed {
                Some(handed) => {
                    let stop = wait_for_phase(phase.clone(), ServerPhase::Draining);
                    let (certificates, counts) = (certificates.clone(), Arc::clone(&counts));
                    let unread = Arc::clone(&all_unread);
                    connections.spawn(serve_connection(handed, certificates, service.clone(), limits, counts, unread, stop));
                }
                // The acceptor is gone before it said so: it was cut off.
                None => break,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(received);
    let end = async { while connections.join_next().await.is_some() {} };
    let mut over = std::pin::pin!(wait_for_phase(phase, ServerPhase::Stopped));
    tokio::select! {
        () = end => {
            drop(drained);
            // Connections to the database may live on this thread, and others may still need them.
            over.await;
        }
        () = &mut over => {}
    }
}

/// Serves what was handed over.
async fn serve_connection<S, B>(
    handed: AcceptedConnection,
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
    let AcceptedConnection { stream, address, guard: place } = handed;
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!(%error, "a connection could not be taken over by its worker"),
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
                // Nothing was asked on it yet, so there is nothing to wait for.
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
                    tracing::info!(%address, %error, "a caller and we could not agree on encryption");
                }
                Err(_) => {
                    counts.handshakes_timed_out.increment();
                    tracing::info!(%address, "a caller did not end its TLS handshake");
                }
            }
        }
    }
    drop(place);
}

/// Waits for a phase, or a later one. That nobody is there to announce it means that everything is over.
async fn wait_for_phase(mut phase: watch::Receiver<ServerPhase>, wanted: ServerPhase) {
    let _ = phase.wait_for(|now| *now >= wanted).await;
}
