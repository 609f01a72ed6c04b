//! One connection to one replica.

use std::{
    fmt,
    future::{Ready, poll_fn, ready},
    io,
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

/// How long a connection may take to be made, the replica's first word on it included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a replica that left a question unanswered may be silent.
const PING_TIMEOUT: Duration = Duration::from_millis(500);
/// A health check of the empty service: five bytes of frame, and no message.
const HEALTH_CHECK_PATH: &str = "/grpc.health.v1.Health/Check";
const EMPTY_GRPC_MESSAGE: &[u8] = &[0; 5];
const NOT_SUSPECT: u64 = u64::MAX;

/// A connection on which the replica has said something.
pub(crate) struct Connection {
    /// Of which replica.
    replica_id: u64,
    channel: Channel,
    activity: Arc<SocketActivity>,
    token: Arc<Option<CurrentToken>>,
    is_pinging: AtomicBool,
    /// How much had come in when it was asked for a sign of life.
    suspected_at: AtomicU64,
}

impl Connection {
    /// Connects, and waits for the first word: a kernel takes connections for a process that stands still.
    ///
    /// # Errors
    /// [`Error::Unreachable`], after 5 s at most.
    pub(super) async fn connect(
        place: u64,
        target: &Target,
        address: SocketAddr,
        token: Arc<Option<CurrentToken>>,
    ) -> Result<Self, Error> {
        let establishing = async {
            let socket = TcpStream::connect(address).await.map_err(|error| Error::from_transport(&error))?;
            socket.set_nodelay(true).map_err(|error| Error::from_transport(&error))?;
            let life = Arc::new(SocketActivity::new());
            let connector = SingleUseConnector(Some(TokioIo::new(Socket::new(socket, Arc::clone(&life)))));
            let channel = target.endpoint().connect_with_connector(connector).await;
            let channel = channel.map_err(|error| Error::from_transport(&error))?;
            let (is_asked, suspected_at) = (AtomicBool::new(false), AtomicU64::new(NOT_SUSPECT));
            let connection = Self {
                replica_id: place,
                channel,
                activity: life,
                token,
                is_pinging: is_asked,
                suspected_at,
            };
            // The beginning of TLS, or HTTP/2's own SETTINGS: what only a process that runs can say.
            tokio::select! {
                biased;
                () = connection.activity.first_byte() => Ok(connection),
                () = connection.activity.unusable() => {
                    Err(Error::Unreachable { message: format!("{address} has closed the connection") })
                }
            }
        };
        let late = || Error::Unreachable {
            message: format!("{address} has not answered within {CONNECT_TIMEOUT:?}"),
        };
        timeout(CONNECT_TIMEOUT, establishing).await.unwrap_or_else(|_| Err(late()))
    }

    pub(crate) fn replica_id(&self) -> u64 {
        self.replica_id
    }

    /// Sends a request. After a failure of the connection itself it takes no others.
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

    /// Waits until it is of no use any more.
    pub(super) async fn closed(&self) {
        self.activity.unusable().await;
    }

    /// Whether it owes a sign of life.
    pub(super) fn is_suspect(&self) -> bool {
        self.suspected_at.load(Ordering::Acquire) == self.activity.received()
    }

    /// Asks for a sign of life, unless that is under way; cuts the connection if nothing at all comes in.
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
                tracing::warn!("a replica gave no sign of life; its connection is closed");
                connection.activity.abort();
            }
            connection.suspected_at.store(NOT_SUSPECT, Ordering::Release);
            connection.is_pinging.store(false, Ordering::Release);
        });
    }

    /// Any answer is a sign of life, also that there is no such method, or that this caller may not ask.
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
            .field("place", &self.replica_id)
            .field("life", &self.activity)
            .finish_non_exhaustive()
    }
}

/// Gives away the socket that there is, and no other: when and where to connect again is the replica's to decide.
struct SingleUseConnector(Option<TokioIo<Socket<TcpStream>>>);

impl Service<Uri> for SingleUseConnector {
    type Response = TokioIo<Socket<TcpStream>>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(
            self.0
                .take()
                .ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the connection was lost")),
        )
    }
}
