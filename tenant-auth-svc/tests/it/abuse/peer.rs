//! A peer that speaks HTTP/2 as it likes.

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
pub(super) struct RawPeer {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<()>,
}

impl Drop for RawPeer {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// A request that was sent.
pub(super) struct SentRequest {
    pub(super) answer: ResponseFuture,
    /// The rest of the request.
    pub(super) body: SendStream<Bytes>,
}

/// What came of a request, as far as its head says.
pub(super) enum ResponseHead {
    /// It was refused.
    Refused,
    /// It is answered; here is the rest.
    Answered(RecvStream),
    /// Its connection or its stream ended.
    Ended,
}

impl RawPeer {
    /// Connects. It will have so many bytes of each answer before it reads on, which it never does.
    pub(super) async fn connect(address: SocketAddr, window: u32) -> Option<Self> {
        let io = TcpStream::connect(address).await.ok()?;
        let mut builder = Builder::new();
        builder.initial_window_size(window);
        let (requests, connection) = builder.handshake(io).await.ok()?;
        let connection = tokio::spawn(async { drop(connection.await) });
        Some(Self { requests, connection })
    }

    /// Begins a request that goes on.
    pub(super) async fn open(&self, path: &str, token: Option<&str>) -> Option<SentRequest> {
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

    /// Sends a whole request.
    pub(super) async fn send_request(
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
    pub(super) async fn response_head(self) -> ResponseHead {
        match self.answer.await {
            Ok(answer) => match answer.headers().get("grpc-status") {
                Some(_) => ResponseHead::Refused,
                None => ResponseHead::Answered(answer.into_body()),
            },
            Err(_) => ResponseHead::Ended,
        }
    }
}

/// A message as gRPC sends it.
pub(super) fn grpc_frame(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut bytes).unwrap();
    bytes.freeze()
}
