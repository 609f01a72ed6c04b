//! Where to listen, and how much to take on.

use std::net::SocketAddr;

use super::reader::{Reader, flag, number};

/// Where to listen, and how much to take on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenConfig {
    /// `TENANT_AUTH_LISTEN`: address and port for gRPC. Default `127.0.0.1:50051`. Port 0 takes any free one.
    pub address: SocketAddr,
    /// `TENANT_AUTH_MAX_REQUESTS`: requests of validation, sessions and usage in work at once, in the whole process.
    /// Default `10000`. A batch is one request, and so is each message of a stream.
    pub max_requests: usize,
}

const ADDRESS: &str = "TENANT_AUTH_LISTEN";
const ALLOW_PLAINTEXT: &str = "TENANT_AUTH_ALLOW_PLAINTEXT";
const MAX_REQUESTS: &str = "TENANT_AUTH_MAX_REQUESTS";

impl ListenConfig {
    /// Reads it. `TENANT_AUTH_ALLOW_PLAINTEXT` (default `false`) must be `true` to listen beyond loopback: callers
    /// are not authenticated and nothing is encrypted, so that belongs behind a mesh or a private network.
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let address = reader.value(ADDRESS, "127.0.0.1:50051", |text| {
            text.parse::<SocketAddr>()
                .map_err(|_| format!("must be an address and a port such as 0.0.0.0:50051, not {text:?}"))
        });
        let allowed = reader.value(ALLOW_PLAINTEXT, "false", flag);
        let max_requests = reader.value(MAX_REQUESTS, "10000", number(1..=1_000_000));
        let (address, allowed) = (address?, allowed?);
        if !address.ip().is_loopback() && !allowed {
            reader.problem(
                ADDRESS,
                format!(
                    "is {address}, beyond loopback, without encryption and without caller authentication: set \
                     {ALLOW_PLAINTEXT}=true if the network in front of it is trusted"
                ),
            );
            return None;
        }
        Some(Self { address, max_requests: usize::try_from(max_requests?).ok()? })
    }
}
