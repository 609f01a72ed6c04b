//! How to connect.

use std::time::Duration;

use tonic::transport::{ClientTlsConfig, Endpoint};

use crate::{Client, Error};

const TIMEOUT: Duration = Duration::from_secs(2);
/// Longer than this cannot be said in a `grpc-timeout` of all precisions, and nobody waits longer.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(86_400);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a silent connection is asked whether it is alive: a peer that vanished without a word is noticed before
/// a caller runs into it.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
const USER_AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

/// Settings of a [`Client`]; see [`Client::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ClientBuilder {
    endpoint: String,
    timeout: Duration,
    user_agent: String,
}

impl ClientBuilder {
    pub(crate) fn new(endpoint: String) -> Self {
        Self { endpoint, timeout: TIMEOUT, user_agent: USER_AGENT.to_owned() }
    }

    /// How long a call may take, connecting included; 2 s unless set, 24 h at most.
    ///
    /// On a stream this bounds its opening only.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.min(LONGEST_TIMEOUT);
        self
    }

    /// Who calls, for the service's log, such as `orders/1.4`.
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = user_agent.into();
        self
    }

    /// A client that connects when it is first used, and again whenever the connection is lost.
    ///
    /// Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::Setup`] when the endpoint or the user agent cannot be used.
    pub fn connect_lazy(self) -> Result<Client, Error> {
        Ok(Client::new(self.endpoint()?.connect_lazy(), self.timeout))
    }

    /// A client that is connected already; it connects again whenever the connection is lost.
    ///
    /// # Errors
    /// [`Error::Setup`] as for [`Self::connect_lazy`], [`Error::Unreachable`] when nobody answers within 1 s.
    pub async fn connect(self) -> Result<Client, Error> {
        let channel = self.endpoint()?.connect().await;
        let channel = channel.map_err(|error| Error::from_transport(&error))?;
        Ok(Client::new(channel, self.timeout))
    }

    fn endpoint(&self) -> Result<Endpoint, Error> {
        let unusable = |what: &str| Error::Setup { message: format!("{:?} {what}", self.endpoint) };
        let secure = match self.endpoint.split_once("://") {
            Some(("http", _)) => false,
            Some(("https", _)) => true,
            _ => return Err(unusable("must start with http:// or https://")),
        };
        let endpoint = Endpoint::from_shared(self.endpoint.clone())
            .map_err(|_| unusable("is not a URL such as http://127.0.0.1:50051"))?;
        if endpoint.uri().host().is_none_or(str::is_empty) {
            return Err(unusable("names no host, such as http://127.0.0.1:50051 does"));
        }
        let endpoint = endpoint
            .user_agent(self.user_agent.as_str())
            .map_err(|_| Error::Setup { message: format!("{:?} is no user agent", self.user_agent) })?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        if !secure {
            return Ok(endpoint);
        }
        endpoint
            .tls_config(ClientTlsConfig::new().with_native_roots().timeout(CONNECT_TIMEOUT))
            .map_err(|_| unusable("needs TLS, and this machine has no usable roots"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn plain_and_tls_endpoints_are_taken() {
        for endpoint in ["http://127.0.0.1:50051", "http://[::1]:50051", "http://tenant-auth"] {
            assert!(Client::builder(endpoint).connect_lazy().is_ok(), "{endpoint}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_reached_is_refused_at_once() {
        let endpoints =
            ["", "127.0.0.1:50051", "localhost", "ftp://host", "http://", "unix:/tmp/x", "http://a b"];
        for endpoint in endpoints {
            let error = Client::builder(endpoint).connect_lazy().unwrap_err();
            assert!(matches!(error, Error::Setup { .. }), "{endpoint}: {error:?}");
        }
        let bad = Client::builder("http://host").user_agent("two\nlines").connect_lazy();
        assert!(matches!(bad, Err(Error::Setup { .. })));
    }

    #[tokio::test]
    async fn nobody_at_home_is_unreachable_lazily_or_not() {
        // A port that was free a moment ago.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let error = Client::builder(&endpoint).connect().await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
        let client = Client::builder(&endpoint).connect_lazy().unwrap();
        let error = client.server_info().await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_peer_that_never_answers_is_given_up_in_time() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let client = Client::builder(&endpoint).timeout(Duration::from_millis(50)).connect_lazy().unwrap();
        assert_eq!(client.server_info().await.unwrap_err(), Error::DeadlineExceeded);
    }
}
