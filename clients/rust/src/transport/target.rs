//! One endpoint as it was given, and how to connect to each of its addresses.

use std::{io, net::SocketAddr, time::Duration};

use http::Uri;
use tonic::transport::{ClientTlsConfig, Endpoint};

use crate::Error;

/// How often a silent connection is asked whether it is alive, and how long it may take to say so: a peer that vanished
/// without a word is noticed before a caller runs into it.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// An endpoint: a host by name or address, and what every connection to it needs.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    uri: Uri,
    host: String,
    port: u16,
    user_agent: String,
    connect_timeout: Duration,
    tls: Option<ClientTlsConfig>,
}

impl Target {
    /// # Errors
    /// [`Error::Setup`] when it is no URL, or the user agent is none.
    pub(crate) fn new(
        url: &str,
        user_agent: &str,
        connect_timeout: Duration,
        tls: &ClientTlsConfig,
    ) -> Result<Self, Error> {
        let unusable = |what: &str| Error::Setup { message: format!("{url:?} {what}") };
        let secure = match url.split_once("://") {
            Some(("http", _)) => false,
            Some(("https", _)) => true,
            _ => return Err(unusable("must start with http:// or https://")),
        };
        let uri: Uri = url.parse().map_err(|_| unusable("is not a URL such as http://127.0.0.1:50051"))?;
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| unusable("names no host, such as http://127.0.0.1:50051 does"))?;
        // An IPv6 address stands in brackets in a URL and nowhere else.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let target = Self {
            port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            uri,
            tls: secure.then(|| tls.clone()),
            host,
            user_agent: user_agent.to_owned(),
            connect_timeout,
        };
        // Whatever cannot work is found out now, not by the first call.
        target.endpoint(SocketAddr::from(([127, 0, 0, 1], target.port)))?;
        Ok(target)
    }

    /// Its only address, if it was given as one.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.host.parse().ok().map(|ip| SocketAddr::new(ip, self.port))
    }

    /// Asks the machine's resolver for its addresses.
    pub(crate) async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        match self.address() {
            Some(address) => Ok(vec![address]),
            None => Ok(tokio::net::lookup_host((self.host.as_str(), self.port)).await?.collect()),
        }
    }

    /// How to connect to one of its addresses; the service still sees the name that was given.
    pub(crate) fn endpoint(&self, address: SocketAddr) -> Result<Endpoint, Error> {
        let unusable = |what: &str| Error::Setup { message: format!("{:?} {what}", self.uri.to_string()) };
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
            .map_err(|_| unusable("is not a URL such as http://127.0.0.1:50051"))?
            .origin(self.uri.clone())
            .user_agent(self.user_agent.as_str())
            .map_err(|_| Error::Setup { message: format!("{:?} is no user agent", self.user_agent) })?
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let Some(tls) = self.tls.clone() else { return Ok(endpoint) };
        endpoint
            .tls_config(tls.domain_name(&self.host).timeout(self.connect_timeout))
            .map_err(|_| unusable("needs TLS, and its roots or certificate cannot be used"))
    }
}
