//! One connection to one replica.

use std::{
    error::Error as StdError,
    fmt,
    future::{Ready, poll_fn, ready},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{
    HeaderValue, Request, Response, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE, TE},
};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};
use tonic::{body::Body, transport::Channel};
use tower_service::Service;

use super::{
    Target,
    socket::{Socket, SocketActivity},
    token::CurrentToken,
};
use crate::Error;

/// Maximum time to connect, including the first bytes from the replica.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time without any byte from a replica that was pinged.
const PING_TIMEOUT: Duration = Duration::from_millis(500);
/// A health check of the whole service: five bytes of frame header, and an empty message.
const HEALTH_CHECK_PATH: &str = "/grpc.health.v1.Health/Check";
const EMPTY_GRPC_MESSAGE: &[u8] = &[0; 5];
const NOT_SUSPECT: u64 = u64::MAX;

/// A connection on which the replica has already sent data.
pub(crate) struct Connection {
    /// The id of the replica.
    replica_id: u64,
    channel: Channel,
    activity: Arc<SocketActivity>,
    token: Arc<Option<CurrentToken>>,
    is_pinging: AtomicBool,
    /// Number of bytes received when the ping was sent.
    suspected_at: AtomicU64,
}

impl Connection {
    /// Connects and waits for the first bytes: the kernel accepts connections even for a process that is
    /// stopped.
    ///
    /// # Errors
    /// [`Error::Unreachable`], after at most 5 s.
    pub(super) async fn connect(
        replica_id: u64,
        target: &Target,
        address: SocketAddr,
        token: Arc<Option<CurrentToken>>,
    ) -> Result<Self, Error> {
        let establishing = async {
            let socket = TcpStream::connect(address).await.map_err(|error| Error::from_transport(&error))?;
            socket.set_nodelay(true).map_err(|error| Error::from_transport(&error))?;
            let activity = Arc::new(SocketActivity::new());
            let connector =
                SingleUseConnector(Some(TokioIo::new(Socket::new(socket, Arc::clone(&activity)))));
            let channel = target.endpoint().connect_with_connector(connector).await;
            let channel = channel.map_err(|error| Error::from_transport(&error))?;
            let (is_pinging, suspected_at) = (AtomicBool::new(false), AtomicU64::new(NOT_SUSPECT));
            let connection = Self { replica_id, channel, activity, token, is_pinging, suspected_at };
            // The start of TLS or the HTTP/2 SETTINGS, which only a running process can send.
            tokio::select! {
                biased;
                () = connection.activity.first_byte() => Ok(connection),
                () = connection.activity.unusable() => {
                    Err(Error::Unreachable { message: format!("{address} closed the connection") })
                }
            }
        };
        let timed_out = || Error::Unreachable {
            message: format!("{address} did not respond within {CONNECT_TIMEOUT:?}"),
        };
        timeout(CONNECT_TIMEOUT, establishing).await.unwrap_or_else(|_| Err(timed_out()))
    }

    pub(crate) fn replica_id(&self) -> u64 {
        self.replica_id
    }

    /// Sends a request. After a failure of the connection itself, the connection accepts no others.
    pub(super) async fn send(
        &self,
        request: Request<Body>,
    ) -> Result<Response<Body>, tonic::transport::Error> {
        let mut channel = self.channel.clone();
        let sending = async {
            poll_fn(|cx| channel.poll_ready(cx)).await?;
            channel.call(request).await
        };
        let outcome = sending.await;
        if outcome.is_err() {
            self.activity.mark_unusable();
        }
        outcome
    }

    /// Waits until the connection is unusable.
    pub(super) async fn closed(&self) {
        self.activity.unusable().await;
    }

    /// Returns whether a ping is unanswered.
    pub(super) fn is_suspect(&self) -> bool {
        self.suspected_at.load(Ordering::Acquire) == self.activity.received()
    }

    /// Pings the replica, unless a ping is in flight. Aborts the connection if no byte arrives.
    pub(crate) fn ping(self: &Arc<Self>) {
        if self.is_pinging.swap(true, Ordering::AcqRel) {
            return;
        }
        let connection = Arc::clone(self);
        tokio::spawn(async move {
            let before = connection.activity.received();
            connection.suspected_at.store(before, Ordering::Release);
            let is_silent = timeout(PING_TIMEOUT, connection.health_check()).await.is_err();
            if is_silent && connection.activity.received() == before {
                tracing::warn!("replica did not respond to a ping; closing its connection");
                connection.activity.abort();
            }
            connection.suspected_at.store(NOT_SUSPECT, Ordering::Release);
            connection.is_pinging.store(false, Ordering::Release);
        });
    }

    /// Any response counts, including UNIMPLEMENTED and PERMISSION_DENIED.
    async fn health_check(&self) -> Result<(), tonic::transport::Error> {
        let mut request = Request::new(Body::new(Full::from(EMPTY_GRPC_MESSAGE)));
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = http::Version::HTTP_2;
        *request.uri_mut() = Uri::from_static(HEALTH_CHECK_PATH);
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        if let Some(token) = &*self.token
            && let Ok(token) = token.current_header()
        {
            headers.insert(AUTHORIZATION, token);
        }
        self.send(request).await.map(|_| ())
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("replica_id", &self.replica_id)
            .field("activity", &self.activity)
            .finish_non_exhaustive()
    }
}

/// The connection was lost before a request was sent on it.
#[derive(Debug, thiserror::Error)]
#[error("the connection was lost")]
struct Lost;

/// Returns whether a request that failed was certainly not sent.
pub(super) fn is_unsent(error: &(dyn StdError + 'static)) -> bool {
    let mut link = Some(error);
    while let Some(error) = link {
        if error.is::<Lost>() || error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled) {
            return true;
        }
        link = error.source();
    }
    false
}

/// A connector that returns its one socket once: the replica task decides when and where to reconnect.
struct SingleUseConnector(Option<TokioIo<Socket<TcpStream>>>);

impl Service<Uri> for SingleUseConnector {
    type Response = TokioIo<Socket<TcpStream>>;
    type Error = Lost;
    type Future = Ready<Result<Self::Response, Lost>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.0.take().ok_or(Lost))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tonic::Status;

    use super::*;

    #[test]
    fn only_a_connection_that_was_lost_before_the_request_counts_as_unsent() {
        assert!(is_unsent(&Lost));
        assert!(is_unsent(&Status::from_error(Box::new(Lost))));
        assert!(!is_unsent(&io::Error::from(io::ErrorKind::ConnectionReset)));
        assert!(!is_unsent(&Status::unavailable("busy")));
    }
}
