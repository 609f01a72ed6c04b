//! A proxy in front of the service: it counts calls, can respond instead of the service, and can be stopped
//! and restarted.

mod disturb;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use disturb::{Body, Disturbances, Replacement};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::{body::Incoming, client::conn::http2::SendRequest, server, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tenant_auth_conformance::port;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::{JoinHandle, JoinSet},
};

use crate::case::Disturbance;

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// The address that it listens on, which never changes.
    pub(crate) address: SocketAddr,
    shared: Arc<ProxyState>,
    accept_task: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct ProxyState {
    service: Mutex<SocketAddr>,
    disturbances: Disturbances,
    /// Calls since the last query, by method.
    calls: Mutex<BTreeMap<String, u64>>,
}

impl Proxy {
    pub(crate) fn start(service: SocketAddr) -> io::Result<Self> {
        let shared = Arc::new(ProxyState {
            service: Mutex::new(service),
            disturbances: Disturbances::default(),
            calls: Mutex::default(),
        });
        let listener = listen(port::reserve_address()?)?;
        let address = listener.local_addr()?;
        let accepting = Some(spawn_acceptor(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, accept_task: accepting })
    }

    /// Resets every connection and refuses new ones.
    pub(crate) async fn stop(&mut self) {
        if let Some(accepting) = self.accept_task.take() {
            accepting.abort();
            // Waits until the listener is closed. The error only says that the task was aborted.
            let _ = accepting.await;
        }
    }

    /// Listens again on the same address, in front of a service whose address may have changed.
    pub(crate) fn restart(&mut self, service: SocketAddr) -> io::Result<()> {
        *lock(&self.shared.service) = service;
        self.accept_task = Some(spawn_acceptor(listen(self.address)?, Arc::clone(&self.shared)));
        Ok(())
    }

    /// Returns the calls since the last query.
    pub(crate) fn take_calls(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut *lock(&self.shared.calls))
    }

    pub(crate) fn disturb(&self, disturbance: Disturbance) {
        self.shared.disturbances.add(disturbance);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    // Allows binding a port whose old connections are still in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1_024)
}

fn spawn_acceptor(listener: TcpListener, shared: Arc<ProxyState>) -> JoinHandle<()> {
    tokio::spawn(async move {
        // The connections end with this task.
        let mut connections = JoinSet::new();
        loop {
            if let Ok((socket, _)) = listener.accept().await {
                connections.spawn(serve_connection(Arc::clone(&shared), socket));
            }
        }
    })
}

/// Serves a client's connection through a separate connection to the service, which ends with it.
async fn serve_connection(shared: Arc<ProxyState>, client: TcpStream) {
    let address = *lock(&shared.service);
    let Ok(service) = TcpStream::connect(address).await else { return };
    // Disables Nagle's algorithm for small messages. If that fails, the proxy is only slower.
    let _ = (client.set_nodelay(true), service.set_nodelay(true));
    let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(service)).await;
    let Ok((sender, onward)) = shaken else { return };
    let forwarding = service_fn(move |request| forward(Arc::clone(&shared), sender.clone(), request));
    let mut http2 = server::conn::http2::Builder::new(TokioExecutor::new());
    let serving = http2.max_concurrent_streams(None).serve_connection(TokioIo::new(client), forwarding);
    tokio::select! {
        _ = serving => {}
        _ = onward => {}
    }
}

async fn forward(
    shared: Arc<ProxyState>,
    mut sender: SendRequest<Incoming>,
    request: Request<Incoming>,
) -> Result<Response<Body>, hyper::Error> {
    let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    *lock(&shared.calls).entry(method.clone()).or_default() += 1;
    match shared.disturbances.replacement_for(&method) {
        Some(Replacement::Response(response)) => Ok(response),
        Some(Replacement::Silence) => std::future::pending().await,
        None => Ok(sender.send_request(request).await?.map(BodyExt::boxed)),
    }
}

/// Converts the error of a body that cannot fail.
fn infallible_error(error: Infallible) -> hyper::Error {
    match error {}
}
