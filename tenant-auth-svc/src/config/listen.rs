//! Listen address and limits of the gRPC server.

use std::net::SocketAddr;

use super::{
    access::AccessConfig,
    parse::{self, parse_bool, parse_number},
    reader::ConfigReader,
    tls::TlsConfig,
};
use crate::transport::{ServerConfig, limits::ConnectionLimits};

/// Listen address and limits of the gRPC server.
#[derive(Clone, Debug)]
pub struct ListenConfig {
    /// `TENANT_AUTH_LISTEN`: gRPC address or host name, and port. Default `127.0.0.1:50051`. Port 0 takes any free
    /// port.
    pub address: SocketAddr,
    /// `TENANT_AUTH_MAX_REQUESTS`: maximum number of concurrent validation, session and usage requests of the
    /// process. Default `10000`. A batch is one request, and so is each message of a stream.
    pub max_requests: usize,
    /// `TENANT_AUTH_MAX_STREAMS`: maximum number of open streams (validation streams, `Watch`, health's
    /// `Watch`, reflection) of the process. Default `10000`.
    pub max_streams: usize,
    /// `TENANT_AUTH_CALLER_SHARE`: the share of these limits that one caller may use, in percent. Default `50`.
    /// Callers without authentication are distinguished by their address. Where authentication is required,
    /// unauthenticated callers share a small limit of their own.
    pub caller_share: usize,
    /// `TENANT_AUTH_WORKERS`: number of threads that serve connections; each connection stays on one thread. Default:
    /// one per core of the machine, or of the container's CPU limit. `TENANT_AUTH_MAX_CONNECTIONS`: maximum number of
    /// connections of the process. Default `10000`; the server closes further ones at once.
    pub server: ServerConfig,
    /// Which addresses may be listened on.
    pub(super) exposure: Exposure,
}

/// Whether an address beyond loopback may be listened on: only with TLS and known callers, unless the configuration allows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exposure {
    is_encrypted: bool,
    has_known_callers: bool,
}

impl Exposure {
    /// Checks an address. `None` after a problem, which is recorded.
    pub(super) fn check(self, reader: &mut ConfigReader, variable: &str, address: SocketAddr) -> Option<()> {
        let Self { is_encrypted, has_known_callers } = self;
        if address.ip().is_loopback() {
            return Some(());
        }
        let unprotected = match (is_encrypted, has_known_callers) {
            (true, true) => return Some(()),
            (false, true) => format!(
                "without encryption: set TENANT_AUTH_TLS_CERT_FILE and …_KEY_FILE, or {ALLOW_PLAINTEXT}=true"
            ),
            (true, false) => format!(
                "without caller authentication: set TENANT_AUTH_CALLERS_FILE, or {ALLOW_ANONYMOUS}=true"
            ),
            (false, false) => format!(
                "without encryption and without caller authentication: set TENANT_AUTH_TLS_CERT_FILE, …_KEY_FILE and \
                 TENANT_AUTH_CALLERS_FILE, or {ALLOW_PLAINTEXT}=true and {ALLOW_ANONYMOUS}=true"
            ),
        };
        reader.report_problem(
            variable,
            format!("{address} is beyond loopback, {unprotected} if the network in front of it is trusted"),
        );
        None
    }
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
    /// Reads the settings. Beyond loopback the server requires TLS, unless `TENANT_AUTH_ALLOW_PLAINTEXT` (default
    /// `false`) is `true`, and known callers, unless `TENANT_AUTH_ALLOW_ANONYMOUS` (default `false`) is `true`: set
    /// these only behind a service mesh or on a trusted network. If TLS or callers are unknown because of another
    /// problem, they count as configured: that problem is reported already.
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
            let message = "must be set: it maps the names in client certificates to roles";
            reader.report_problem("TENANT_AUTH_CALLERS_FILE", message);
            return None;
        }
        let exposure =
            Exposure { is_encrypted: encrypted || plaintext, has_known_callers: known || anonymous };
        exposure.check(reader, ADDRESS, address)?;
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
            exposure,
        })
    }
}
