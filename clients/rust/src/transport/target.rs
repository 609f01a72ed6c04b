//! One endpoint as configured, and its connection settings.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http::Uri;
use tonic::transport::Endpoint;

use super::Address;
use crate::{Error, Tls, options::setup_error};

/// Interval and timeout of HTTP/2 keepalive pings on an idle connection, so that a peer that vanished is
/// detected before the next call.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// An endpoint: a host, by name or address, and the settings of every connection to it.
#[derive(Debug)]
pub(crate) struct Target {
    address: Address,
    tls: Option<Tls>,
    /// The last settings that were valid.
    endpoint: Mutex<Endpoint>,
}

impl Target {
    /// # Errors
    /// [`Error::Setup`] if the user agent or the TLS settings are invalid.
    pub(crate) fn new(address: Address, user_agent: &str, tls: Option<Tls>) -> Result<Self, Error> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let invalid =
            |_| setup_error(format!("invalid endpoint {:?}: must be host:port", address.to_string()));
        // The service sees, and is verified by, the host as configured, regardless of the addresses it resolves to.
        let uri: Uri = format!("{scheme}://{address}").parse().map_err(invalid)?;
        let endpoint = Endpoint::from(uri)
            .user_agent(user_agent)
            .map_err(|_| {
                setup_error(format!("user_agent: invalid value {user_agent:?}: not valid in a header"))
            })?
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let endpoint = with_tls(endpoint, &address, tls.as_ref())?;
        Ok(Self { address, tls, endpoint: Mutex::new(endpoint) })
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Returns the address if the host is an IP address.
    pub(crate) fn literal_address(&self) -> Option<SocketAddr> {
        self.address.host.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, self.address.port))
    }

    /// Returns the settings for a new connection to any of its addresses.
    pub(crate) fn endpoint(&self) -> Endpoint {
        let mut endpoint = self.endpoint.lock().unwrap_or_else(PoisonError::into_inner);
        if self.tls.as_ref().is_some_and(Tls::has_files) {
            match with_tls(endpoint.clone(), &self.address, self.tls.as_ref()) {
                Ok(current) => *endpoint = current,
                // The files may be in the middle of a replacement.
                Err(error) => {
                    tracing::warn!(%error, "TLS files could not be reloaded; the previous content stays in use")
                }
            }
        }
        endpoint.clone()
    }
}

fn with_tls(endpoint: Endpoint, address: &Address, tls: Option<&Tls>) -> Result<Endpoint, Error> {
    let Some(tls) = tls else { return Ok(endpoint) };
    let invalid = |error| setup_error(format!("invalid TLS settings: {error}"));
    endpoint.tls_config(tls.config(&address.host)?).map_err(invalid)
}
