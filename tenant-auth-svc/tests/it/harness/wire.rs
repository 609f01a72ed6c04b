//! Calls by path and bytes, for every RPC regardless of its message types.

use std::collections::BTreeSet;

use bytes::{Buf as _, BufMut as _, Bytes};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};

/// A codec that passes encoded messages through.
#[derive(Clone, Copy, Debug, Default)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// Builds a request with a caller's token.
pub(crate) fn with_token<T>(token: &str, message: T) -> Request<T> {
    with_authorization(&format!("Bearer {token}"), message)
}

pub(crate) fn with_authorization<T>(value: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", value.parse().unwrap());
    request
}

/// Sends one empty message to an RPC of any kind, and waits for the start of its response.
pub(crate) async fn call_path(
    channel: &Channel,
    path: &str,
    authorization: Option<&str>,
) -> Result<(), Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let message = tokio_stream::once(Bytes::new());
    let request = match authorization {
        Some(value) => with_authorization(value, message),
        None => Request::new(message),
    };
    client.streaming(request, path.parse().unwrap(), RawCodec).await.map(drop)
}

/// Calls a unary RPC with the bytes of a message, and returns those of the response.
pub(crate) async fn call_bytes(
    channel: &Channel,
    path: &str,
    authorization: Option<&str>,
    message: &[u8],
) -> Result<Bytes, Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let message = Bytes::copy_from_slice(message);
    let request = match authorization {
        Some(value) => with_authorization(value, message),
        None => Request::new(message),
    };
    Ok(client.unary(request, path.parse().unwrap(), RawCodec).await?.into_inner())
}

/// Returns the paths of all RPCs in the service's descriptors.
pub(crate) fn rpc_paths() -> BTreeSet<String> {
    let sets = [
        tenant_auth_proto::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let mut paths = BTreeSet::new();
    for file in sets.iter().flat_map(|set| FileDescriptorSet::decode(*set).unwrap().file) {
        for service in &file.service {
            let path = |method: &prost_types::MethodDescriptorProto| {
                format!("/{}.{}/{}", file.package(), service.name(), method.name())
            };
            paths.extend(service.method.iter().map(path));
        }
    }
    paths
}
