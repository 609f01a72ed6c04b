//! A running HTTP server besides gRPC: the front doors, or the console.

use std::{convert::Infallible, future::Future, net::SocketAddr};

use tokio::{sync::oneshot, task::JoinHandle};

/// A running HTTP server. Dropping it ends the server.
#[derive(Debug)]
pub(super) struct HttpServer {
    pub(super) address: SocketAddr,
    end: oneshot::Sender<Infallible>,
    task: JoinHandle<()>,
}

/// Ends when the server is to stop.
pub(super) type End = futures::future::BoxFuture<'static, ()>;

impl HttpServer {
    /// Starts a server that serves until the end which it gets.
    pub(super) fn start<F: Future<Output = ()> + Send + 'static>(
        address: SocketAddr,
        serve: impl FnOnce(End) -> F,
    ) -> Self {
        let (end, ended) = oneshot::channel();
        let task = tokio::spawn(serve(Box::pin(async move {
            // Nothing is ever sent. The channel closes when its sender is dropped.
            let _: Result<Infallible, _> = ended.await;
        })));
        Self { address, end, task }
    }

    /// Stops to accept connections, and waits until the requests in flight have ended, for a few seconds.
    pub(super) async fn stop(self) {
        drop(self.end);
        // Its only possible error is a panic, which the panic hook has logged.
        let _ = self.task.await;
    }
}
