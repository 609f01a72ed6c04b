//! Where to listen, and how much to take on.

use std::net::SocketAddr;

use super::{
    access::AccessConfig,
    parse::{self, parse_bool, parse_number},
    reader::ConfigReader,
    tls::TlsConfig,
};
use crate::transport::{ServerConfig, limits::ConnectionLimits};

/// Where to listen, and how much to take on.
#[derive(Clone, Debug)]
pub struct ListenConfig {
    /// `TENANT_AUTH_LISTEN`: address, or name of a host, and port for gRPC. Default `127.0.0.1:50051`. Port 0 takes any
    /// free one.
    pub address: SocketAddr,
    /// `TENANT_AUTH_MAX_REQUESTS`: requests of validation, sessions and usage in work at once, in the whole process.
    /// Default `10000`. A batch is one request, and so is each message of a stream.
    pub max_requests: usize,
    /// `TENANT_AUTH_MAX_STREAMS`: streams open at once (validation streams, `HealthWatch`, health's `HealthWatch`, reflection), in the whole
    /// process. Default `10000`.
    pub max_streams: usize,
    /// `TENANT_AUTH_CALLER_SHARE`: how much of these one caller may have, in percent. Default `50`. Callers that are not
    /// authenticated are told apart by their address; those that have to be, and are not, have a small number of their own.
    pub caller_share: usize,
    /// `TENANT_AUTH_WORKERS`: threads that serve connections, each connection by one of them. Default: one for each core
    /// of the machine, or of the container's share. `TENANT_AUTH_MAX_CONNECTIONS`: most connections at once, in the
    /// whole process. Default `10000`; more are closed at once.
    pub server: ServerConfig,
}

const ADDRESS: &str = "TENANT_AUTH_LISTEN";
const ALLOW_PLAINTEXT: &str = "TENANT_AUTH_ALLOW_PLAINTEXT";
const ALLOW_ANONYMOUS: &str = "TENANT_AUTH_ALLOW_ANONYMOUS";
const MAX_REQUESTS: &str = "TENANT_AUTH_MAX_REQUESTS";
const MAX_STREAMS: &str = "TENANT_AUTH_MAX_STREAMS";
const CALLER_SHARE: &str = "TENANT_AUTH_CALLER_SHARE";
const MAX_CONNECTIONS: &str = "TENANT_AUTH_MAX_CONNECTIONS";
const WORKERS: &str = "TENANT_AUTH_WORKERS";

impl ListenConfig {
    /// Reads it. What is served beyond loopback is encrypted, unless `TENANT_AUTH_ALLOW_PLAINTEXT` (default `false`)
    /// is `true`, and only for callers that are known, unless `TENANT_AUTH_ALLOW_ANONYMOUS` (default `false`) is: both
    /// belong behind a mesh, or a network that is trusted as a whole. Unknown because of another problem counts as
    /// there: that problem is enough to hear of.
    pub(super) fn read(
        reader: &mut ConfigReader,
        tls: Option<&TlsConfig>,
        access: Option<&AccessConfig>,
    ) -> Option<Self> {
        let address = reader.value(ADDRESS, "127.0.0.1:50051", parse::parse_address);
        let plaintext = reader.value(ALLOW_PLAINTEXT, "false", parse_bool);
        let anonymous = reader.value(ALLOW_ANONYMOUS, "false", parse_bool);
        let max_requests = reader.value(MAX_REQUESTS, "10000", parse_number(1..=1_000_000));
        let max_streams = reader.value(MAX_STREAMS, "10000", parse_number(1..=1_000_000));
        let caller_share = reader.value(CALLER_SHARE, "50", parse_number(1..=100));
        let max_connections = reader.value(MAX_CONNECTIONS, "10000", parse_number(1..=1_000_000));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = reader.value(WORKERS, &cores.to_string(), parse_number(1..=1_024));
        let (address, plaintext, anonymous) = (address?, plaintext?, anonymous?);
        let encrypted = tls.is_none_or(|tls| tls.certificates.is_some());
        let known = access.is_none_or(|access| access.callers.is_some());
        if !known && tls.is_some_and(TlsConfig::has_client_ca) {
            let message = "must be set: it says what the names in client certificates may do";
            reader.report_problem("TENANT_AUTH_CALLERS_FILE", message);
            return None;
        }
        if !address.ip().is_loopback() {
            let bare = match (encrypted || plaintext, known || anonymous) {
                (true, true) => None,
                (false, true) => Some(format!(
                    "without encryption: set TENANT_AUTH_TLS_CERT_FILE and …_KEY_FILE, or {ALLOW_PLAINTEXT}=true"
                )),
                (true, false) => Some(format!(
                    "without caller authentication: set TENANT_AUTH_CALLERS_FILE, or {ALLOW_ANONYMOUS}=true"
                )),
                (false, false) => Some(format!(
                    "without encryption and without caller authentication: set TENANT_AUTH_TLS_CERT_FILE, …_KEY_FILE and \
                     TENANT_AUTH_CALLERS_FILE, or {ALLOW_PLAINTEXT}=true and {ALLOW_ANONYMOUS}=true"
                )),
            };
            if let Some(bare) = bare {
                reader.report_problem(
                    ADDRESS,
                    format!("is {address}, beyond loopback, {bare} if the network in front of it is trusted"),
                );
                return None;
            }
        }
        let server = ServerConfig {
            workers: usize::try_from(workers?).ok()?,
            max_connections: usize::try_from(max_connections?).ok()?,
            limits: ConnectionLimits::default(),
        };
        let [max_requests, max_streams, caller_share] =
            [max_requests?, max_streams?, caller_share?].map(usize::try_from);
        Some(Self {
            address,
            max_requests: max_requests.ok()?,
            max_streams: max_streams.ok()?,
            caller_share: caller_share.ok()?,
            server,
        })
    }
}
