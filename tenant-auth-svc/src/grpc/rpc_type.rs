//! Whether an RPC is unary or a stream, as the descriptors of the services say.

use prost::Message as _;
use prost_types::FileDescriptorSet;

/// The kinds of RPC, as the label `grpc_type` spells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RpcType {
    /// One request, one response.
    Unary,
    /// A stream of requests, one response.
    ClientStream,
    /// One request, a stream of responses.
    ServerStream,
    /// Streams of both.
    BidiStream,
    /// The RPC does not exist.
    Unknown,
}

impl RpcType {
    /// As the label `grpc_type` spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::ClientStream => "client_stream",
            Self::ServerStream => "server_stream",
            Self::BidiStream => "bidi_stream",
            Self::Unknown => "unknown",
        }
    }
}

/// Every RPC that the descriptors know, as `/package.Service/Method`.
#[must_use]
pub fn described_rpcs() -> Vec<(String, RpcType)> {
    let sets = [
        tenant_auth_proto::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    // They are part of this program, and a test reads them.
    let files = sets.into_iter().flat_map(|set| FileDescriptorSet::decode(set).unwrap_or_default().file);
    let mut rpcs = Vec::new();
    for file in files {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                rpcs.push((path, rpc_type(method.client_streaming(), method.server_streaming())));
            }
        }
    }
    rpcs
}

fn rpc_type(client_streams: bool, server_streams: bool) -> RpcType {
    match (client_streams, server_streams) {
        (false, false) => RpcType::Unary,
        (true, false) => RpcType::ClientStream,
        (false, true) => RpcType::ServerStream,
        (true, true) => RpcType::BidiStream,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::access;

    #[test]
    fn every_rpc_with_an_access_rule_is_described() {
        let described = described_rpcs();
        for (path, _) in access::access_rules() {
            assert!(described.iter().any(|(known, _)| known == path), "{path}");
        }
        let of = |path: &str| described.iter().find(|(known, _)| known == path).unwrap().1;
        assert_eq!(of("/tenantauth.v1.ValidationService/ValidateKey"), RpcType::Unary);
        assert_eq!(of("/tenantauth.v1.ValidationService/StreamValidateKeys"), RpcType::BidiStream);
        assert_eq!(of("/tenantauth.v1.WatchService/Watch"), RpcType::ServerStream);
    }
}
