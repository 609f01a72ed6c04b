//! One endpoint as it was given, and how to connect to each of its addresses.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http::Uri;
use tonic::transport::Endpoint;

use super::Address;
use crate::{Error, Tls, options::setup_error};

/// How often a silent connection is asked whether it is alive, and how long it may take to say so: a peer that vanished
/// without a word is noticed before a caller runs into it.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// An endpoint: a host by name or address, and what every connection to it needs.
#[derive(Debug)]
pub(crate) struct Target {
    address: Address,
    tls: Option<Tls>,
    /// The last one that could be made.
    endpoint: Mutex<Endpoint>,
}

impl Target {
    /// # Errors
    /// [`Error::Setup`] when the user agent is none, or the TLS settings cannot be used.
    pub(crate) fn new(address: Address, user_agent: &str, tls: Option<Tls>) -> Result<Self, Error> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let unusable = |_| setup_error(format!("the endpoint {:?} is no host:port", address.to_string()));
        // The service sees, and is verified under, the host that was given, whatever it stands for.
        let uri: Uri = format!("{scheme}://{address}").parse().map_err(unusable)?;
        let endpoint = Endpoint::from(uri)
            .user_agent(user_agent)
            .map_err(|_| setup_error(format!("the user agent {user_agent:?} cannot be sent")))?
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let endpoint = with_tls(endpoint, &address, tls.as_ref())?;
        Ok(Self { address, tls, endpoint: Mutex::new(endpoint) })
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Its only address, if it was given as one.
    pub(crate) fn literal_address(&self) -> Option<SocketAddr> {
        self.address.host.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, self.address.port))
    }

    /// How to speak over a new connection to any of its addresses.
    pub(crate) fn endpoint(&self) -> Endpoint {
        let mut endpoint = self.endpoint.lock().unwrap_or_else(PoisonError::into_inner);
        if self.tls.as_ref().is_some_and(Tls::has_files) {
            match with_tls(endpoint.clone(), &self.address, self.tls.as_ref()) {
                Ok(current) => *endpoint = current,
                // They may be in the middle of being replaced.
                Err(error) => tracing::warn!(%error, "the TLS files read before are still used"),
            }
        }
        endpoint.clone()
    }
}

fn with_tls(endpoint: Endpoint, address: &Address, tls: Option<&Tls>) -> Result<Endpoint, Error> {
    let Some(tls) = tls else { return Ok(endpoint) };
    let unusable = |error| setup_error(format!("the TLS settings cannot be used: {error}"));
    endpoint.tls_config(tls.config(&address.host)?).map_err(unusable)
}
