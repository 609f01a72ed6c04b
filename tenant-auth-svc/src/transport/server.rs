//! The acceptor, and the server's life.

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

/// How long to wait after the operating system could not give a connection: it is out of file descriptors, most likely,
/// and asking at once would only burn a core.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// How to serve.
#[derive(Clone, Copy, Debug)]
pub struct ServerConfig {
    /// Threads that serve connections.
    pub workers: usize,
    /// Most connections at once; more are closed at once, so that their callers go to another replica.
    pub max_connections: usize,
    /// What one connection may ask for.
    pub limits: ConnectionLimits,
}

/// A server while it runs. Dropped, it cuts everything off.
#[derive(Debug)]
pub struct Server {
    phase: watch::Sender<ServerPhase>,
    drained: mpsc::Receiver<Infallible>,
    acceptor: JoinHandle<()>,
    connections: Connections,
}

/// The connections of a server, to be looked at. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connections {
    workers: Arc<[Worker]>,
    counts: Arc<ConnectionCounts>,
    limit: usize,
}

/// What became of connections.
#[derive(Debug, Default)]
pub struct ConnectionCounts {
    /// They were handed to a worker.
    pub opened: Counter,
    /// They were closed at once, for there were as many as may be.
    pub refused: Counter,
    /// Their TLS handshake failed.
    pub handshakes_failed: Counter,
    /// … or did not end in time.
    pub handshakes_timed_out: Counter,
    /// Their peers read nothing of what waited for them.
    pub stalled: Counter,
    /// Their peers gave up nearly everything that they asked for.
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
    /// How many each worker has at this moment.
    pub fn open_per_worker(&self) -> impl Iterator<Item = usize> {
        self.workers.iter().map(|worker| worker.open_connections.load(Ordering::Relaxed))
    }

    /// How many there may be.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// What became of those there were.
    #[must_use]
    pub fn counts(&self) -> &ConnectionCounts {
        &self.counts
    }
}

impl Server {
    /// Starts the workers and takes connections; encrypted ones, if there are certificates.
    ///
    /// # Errors
    /// When the operating system gives no threads.
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
        let (phase, seen) = watch::channel(ServerPhase::Serving);
        let (open, drained) = mpsc::channel(1);
        let counts = Arc::new(ConnectionCounts::default());
        let orders = WorkerContext {
            service,
            certificates,
            limits: config.limits,
            counts: Arc::clone(&counts),
            phase: seen,
            drained_sender: open,
        };
        let workers = (0..config.workers.max(1))
            .map(|number| worker::start(number, orders.clone()))
            .collect::<io::Result<Arc<[_]>>>()?;
        let connections = Connections { workers, counts, limit: config.max_connections };
        let acceptor = Acceptor { listener, connections: connections.clone() };
        let mut stop = orders.phase.clone();
        let acceptor = tokio::spawn(async move {
            tokio::select! {
                never = acceptor.run() => match never {},
                // An error means that nobody is left to say it.
                _ = stop.wait_for(|now| *now >= ServerPhase::Draining) => {}
            }
        });
        Ok(Self { phase, drained, acceptor, connections })
    }

    /// Takes no more connections, and asks the callers of those there are to begin nothing more on them.
    pub fn drain(&self) {
        self.phase.send_if_modified(|now| {
            let before = *now;
            *now = before.max(ServerPhase::Draining);
            before != *now
        });
    }

    /// Waits until the last connection has ended, which is never before [`drain`](Self::drain).
    pub async fn wait_until_drained(&mut self) {
        // Nothing is ever sent: it closes with the last worker's end of it.
        while self.drained.recv().await.is_some() {}
    }

    /// Its connections.
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
        let mut full = false;
        let mut turn = 0_usize;
        loop {
            let (stream, address) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                    continue;
                }
            };
            let live = self.connections.open_per_worker().sum::<usize>();
            if live >= self.connections.limit {
                self.connections.counts.refused.increment();
                // Said once, not for each of a flood.
                if !std::mem::replace(&mut full, true) {
                    tracing::warn!(live, "as many connections as may be are open: more are closed at once");
                }
                continue;
            }
            full = false;
            turn = turn.wrapping_add(1);
            if let Err(error) = self.assign_to_worker(stream, address, turn) {
                tracing::debug!(%error, "a connection ended before it was handed to a worker");
            }
        }
    }

    /// To the worker that has the fewest; among equals, to the next one in turn.
    fn assign_to_worker(&self, stream: TcpStream, address: SocketAddr, turn: usize) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let stream = stream.into_std()?;
        let workers = &self.connections.workers;
        let count = workers.len();
        let in_turn = (0..count).filter_map(|i| workers.get((turn + i) % count));
        let Some(worker) = in_turn.min_by_key(|worker| worker.open_connections.load(Ordering::Relaxed))
        else {
            return Ok(());
        };
        let place = ConnectionGuard::new(&worker.open_connections);
        self.connections.counts.opened.increment();
        // Refused only when the worker has ended, and then so has the server.
        let _ = worker.connection_sender.send(AcceptedConnection { stream, address, guard: place });
        Ok(())
    }
}
