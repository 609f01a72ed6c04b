//! The acceptor and the lifecycle of the server.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http::Response;
use http_body::Body;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tower::Service;

use super::{
    connection::AbuseReason,
    limits::ConnectionLimits,
    peer::PeerRequest,
    tls::Certificates,
    worker::{self, AcceptedConnection, ConnectionGuard, ServerPhase, Worker, WorkerContext},
};
use crate::instruments::counts::Counter;

/// The delay after a failed accept. Most likely the process is out of file descriptors, and an immediate
/// retry would only use a core.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// The configuration of the server.
#[derive(Clone, Copy, Debug)]
pub struct ServerConfig {
    /// Threads that serve connections.
    pub workers: usize,
    /// Maximum number of open connections. Further ones are closed at once, so that their callers use another
    /// replica.
    pub max_connections: usize,
    /// Limits of each connection.
    pub limits: ConnectionLimits,
}

/// A running server. Dropping it closes all connections at once.
#[derive(Debug)]
pub struct Server {
    phase: watch::Sender<ServerPhase>,
    drained: mpsc::Receiver<Infallible>,
    acceptor: JoinHandle<()>,
    connections: Connections,
}

/// The open connections of a server and their counts. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connections {
    workers: Arc<[Worker]>,
    counts: Arc<ConnectionCounts>,
    limit: usize,
}

/// Counts of connections by outcome.
#[derive(Debug, Default)]
pub struct ConnectionCounts {
    /// Assigned to a worker.
    pub opened: Counter,
    /// Closed at once, because the maximum number was open.
    pub refused: Counter,
    /// TLS handshake failed.
    pub handshakes_failed: Counter,
    /// TLS handshake timed out.
    pub handshakes_timed_out: Counter,
    /// Ended because the peer read none of the waiting data.
    pub stalled: Counter,
    /// Ended because the peer cancelled nearly all of its requests.
    pub abused: Counter,
}

impl ConnectionCounts {
    pub(super) fn for_abuse(&self, abuse: AbuseReason) -> &Counter {
        match abuse {
            AbuseReason::Stalled => &self.stalled,
            AbuseReason::RapidReset => &self.abused,
        }
    }
}

impl Connections {
    /// Returns the number of open connections of each worker.
    pub fn open_per_worker(&self) -> impl Iterator<Item = usize> {
        self.workers.iter().map(|worker| worker.open_connections.load(Ordering::Relaxed))
    }

    /// Returns the maximum number of open connections.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Returns the counts by outcome.
    #[must_use]
    pub fn counts(&self) -> &ConnectionCounts {
        &self.counts
    }
}

impl Server {
    /// Starts the workers and accepts connections, with TLS if there are certificates.
    ///
    /// # Errors
    /// If the operating system cannot start a thread.
    pub fn start<S, B>(
        listener: TcpListener,
        certificates: Option<Arc<Certificates>>,
        service: S,
        config: ServerConfig,
    ) -> io::Result<Self>
    where
        S: Service<PeerRequest, Response = Response<B>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (phase, phase_receiver) = watch::channel(ServerPhase::Serving);
        let (drained_sender, drained) = mpsc::channel(1);
        let counts = Arc::new(ConnectionCounts::default());
        let context = WorkerContext {
            service,
            certificates,
            limits: config.limits,
            counts: Arc::clone(&counts),
            phase: phase_receiver,
            drained_sender,
        };
        let workers = (0..config.workers.max(1))
            .map(|number| worker::start(number, context.clone()))
            .collect::<io::Result<Arc<[_]>>>()?;
        let connections = Connections { workers, counts, limit: config.max_connections };
        let acceptor = Acceptor { listener, connections: connections.clone() };
        let mut stop = context.phase.clone();
        let acceptor = tokio::spawn(async move {
            tokio::select! {
                never = acceptor.run() => match never {},
                // An error means that the sender is dropped, with the server.
                _ = stop.wait_for(|now| *now >= ServerPhase::Draining) => {}
            }
        });
        Ok(Self { phase, drained, acceptor, connections })
    }

    /// Stops accepting connections and sends GOAWAY on the open ones.
    pub fn drain(&self) {
        self.phase.send_if_modified(|now| {
            let before = *now;
            *now = before.max(ServerPhase::Draining);
            before != *now
        });
    }

    /// Waits until the last connection has ended. Call [`drain`](Self::drain) first.
    pub async fn wait_until_drained(&mut self) {
        // Nothing is ever sent: the channel closes when the last worker drops its sender.
        while self.drained.recv().await.is_some() {}
    }

    /// Returns the connections.
    #[must_use]
    pub fn connections(&self) -> &Connections {
        &self.connections
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.phase.send_replace(ServerPhase::Stopped);
        self.acceptor.abort();
    }
}

struct Acceptor {
    listener: TcpListener,
    connections: Connections,
}

impl Acceptor {
    async fn run(self) -> Infallible {
        let mut is_full = false;
        let mut next = 0_usize;
        loop {
            let (stream, address) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "connection not accepted");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                    continue;
                }
            };
            let live = self.connections.open_per_worker().sum::<usize>();
            if live >= self.connections.limit {
                self.connections.counts.refused.increment();
                // Logged once, not for each refusal of a flood.
                if !std::mem::replace(&mut is_full, true) {
                    tracing::warn!(live, "connection limit reached, new connections are closed");
                }
                continue;
            }
            is_full = false;
            next = next.wrapping_add(1);
            if let Err(error) = self.assign_to_worker(stream, address, next) {
                tracing::debug!(%error, "connection ended before its assignment to a worker");
            }
        }
    }

    /// Assigns a connection to the worker with the fewest; among equals, round-robin.
    fn assign_to_worker(&self, stream: TcpStream, address: SocketAddr, next: usize) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let stream = stream.into_std()?;
        let workers = &self.connections.workers;
        let count = workers.len();
        let in_turn = (0..count).filter_map(|i| workers.get((next + i) % count));
        let Some(worker) = in_turn.min_by_key(|worker| worker.open_connections.load(Ordering::Relaxed))
        else {
            return Ok(());
        };
        let guard = ConnectionGuard::new(&worker.open_connections);
        self.connections.counts.opened.increment();
        // Fails only if the worker has ended, and then the server has ended too.
        let _ = worker.connection_sender.send(AcceptedConnection { stream, address, guard });
        Ok(())
    }
}
