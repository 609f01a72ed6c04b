//! Raw HTTP/2: sends a request in one frame or split over two.

use std::net::SocketAddr;

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use http::Request;
use tenant_auth_proto::v1;
use tokio::net::TcpStream;

use crate::harness::owned;

pub(crate) const VALIDATE_PATH: &str = "/tenantauth.v1.ValidationService/ValidateKey";
pub(crate) const CONSUME_PATH: &str = "/tenantauth.v1.LimitService/Consume";
pub(crate) const BATCH_PATH: &str = "/tenantauth.v1.ValidationService/BatchValidateKeys";

pub(crate) fn validate_request(key: &str, scopes: &[&str]) -> v1::ValidateKeyRequest {
    v1::ValidateKeyRequest { key: key.to_owned(), required_scopes: owned(scopes), ..Default::default() }
}

/// A connection to a service.
pub(crate) struct Connection {
    address: SocketAddr,
    sender: SendRequest<Bytes>,
}

/// The response.
#[derive(Debug)]
pub(crate) struct RawResponse {
    pub(crate) status: i32,
    pub(crate) message: Bytes,
    pub(crate) request_id: Option<String>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self { address, sender }
    }

    /// Sends headers and message at once.
    pub(crate) async fn send(&self, path: &str, message: &[u8], headers: &[(&str, &str)]) -> RawResponse {
        let (response, mut stream) = self.start_request(path, headers).await;
        stream.send_data(grpc_frame(message), true).unwrap();
        read_answer(response).await
    }

    /// Sends the last byte of the message after the server has received the rest.
    pub(crate) async fn send_in_pieces(&self, path: &str, message: &[u8]) -> RawResponse {
        let (response, mut stream) = self.start_request(path, &[]).await;
        let mut first = grpc_frame(message);
        let last = first.split_off(first.len() - 1);
        stream.send_data(first, false).unwrap();
        // A ping is answered after everything before it was read.
        self.round_trip().await;
        stream.send_data(last, true).unwrap();
        read_answer(response).await
    }

    /// Sends another complete request on the same connection.
    async fn round_trip(&self) {
        let message = grpc_frame(&[]);
        let (response, mut stream) =
            self.start_request("/tenantauth.v1.InfoService/GetServerInfo", &[]).await;
        stream.send_data(message, true).unwrap();
        read_answer(response).await;
    }

    async fn start_request(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (ResponseFuture, h2::SendStream<Bytes>) {
        let mut request = Request::post(format!("http://{}{path}", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut sender = self.sender.clone().ready().await.unwrap();
        sender.send_request(request.body(()).unwrap(), false).unwrap()
    }
}

fn grpc_frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.len().try_into().unwrap());
    frame.put_slice(message);
    frame.freeze()
}

async fn read_answer(response: ResponseFuture) -> RawResponse {
    let response = response.await.unwrap();
    let text = |headers: &http::HeaderMap, name: &str| {
        headers.get(name).map(|value| value.to_str().unwrap().to_owned())
    };
    let request_id = text(response.headers(), "x-request-id");
    // An error is in the headers, because it has no message.
    let mut status = text(response.headers(), "grpc-status");
    let mut body = response.into_body();
    let mut message = BytesMut::new();
    while let Some(data) = body.data().await {
        message.extend_from_slice(&data.unwrap());
    }
    if let Some(trailers) = body.trailers().await.unwrap() {
        status = text(&trailers, "grpc-status");
    }
    RawResponse { status: status.unwrap().parse().unwrap(), message: message.freeze(), request_id }
}
