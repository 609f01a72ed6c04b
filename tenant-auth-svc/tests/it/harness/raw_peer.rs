//! A peer that controls HTTP/2 directly.

use std::net::SocketAddr;

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::{
    RecvStream, SendStream,
    client::{Builder, ResponseFuture, SendRequest},
};
use http::Request;
use prost::Message;
use tokio::{net::TcpStream, task::JoinHandle};

/// A connection.
pub(crate) struct RawPeer {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<()>,
}

impl Drop for RawPeer {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// A request that was sent.
pub(crate) struct SentRequest {
    pub(crate) answer: ResponseFuture,
    /// The send side of the request body.
    pub(crate) body: SendStream<Bytes>,
}

/// The outcome of a request, as far as its response headers show.
pub(crate) enum ResponseHead {
    /// The server rejected the request.
    Refused,
    /// The server answered; contains the response body.
    Answered(RecvStream),
    /// The connection or the stream ended.
    Ended,
}

impl RawPeer {
    /// Connects with a receive window of `window` bytes per response. The peer never reads, so the window
    /// never grows.
    pub(crate) async fn connect(address: SocketAddr, window: u32) -> Option<Self> {
        let io = TcpStream::connect(address).await.ok()?;
        let mut builder = Builder::new();
        builder.initial_window_size(window);
        let (requests, connection) = builder.handshake(io).await.ok()?;
        let connection = tokio::spawn(async { drop(connection.await) });
        Some(Self { requests, connection })
    }

    /// Starts a request and leaves its body open.
    pub(crate) async fn open(&self, path: &str, token: Option<&str>) -> Option<SentRequest> {
        let mut request = Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut ready = self.requests.clone().ready().await.ok()?;
        let (answer, body) = ready.send_request(request.body(()).unwrap(), false).ok()?;
        Some(SentRequest { answer, body })
    }

    /// Sends a complete request.
    pub(crate) async fn send_request(
        &self,
        path: &str,
        token: Option<&str>,
        message: &impl Message,
    ) -> Option<SentRequest> {
        let mut asked = self.open(path, token).await?;
        asked.body.send_data(grpc_frame(message), true).ok()?;
        Some(asked)
    }
}

impl SentRequest {
    pub(crate) async fn response_head(self) -> ResponseHead {
        match self.answer.await {
            Ok(answer) => match answer.headers().get("grpc-status") {
                Some(_) => ResponseHead::Refused,
                None => ResponseHead::Answered(answer.into_body()),
            },
            Err(_) => ResponseHead::Ended,
        }
    }
}

/// Encodes a message as a gRPC frame.
pub(crate) fn grpc_frame(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut bytes).unwrap();
    bytes.freeze()
}
