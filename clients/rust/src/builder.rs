//! How to connect.

use std::{sync::Arc, time::Duration};

use http::HeaderValue;

use crate::{
    CallerToken, Client, Clock, Error, NearCache, Tls,
    call::Caller,
    clock::SystemClock,
    near::{Memory, Near},
    transport::{Pool, Target, Transport},
};

const TIMEOUT: Duration = Duration::from_secs(1);
/// Longer than this cannot be said in a `grpc-timeout` of all precisions, and nobody waits longer.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(86_400);
const LONGEST_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const USER_AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

/// Settings of a [`Client`]; see [`Client::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ClientBuilder {
    endpoints: Vec<String>,
    timeout: Duration,
    user_agent: String,
    tls: Tls,
    token: Option<CallerToken>,
    request_id: Option<String>,
    near_cache: Option<NearCache>,
    clock: Arc<dyn Clock>,
}

impl ClientBuilder {
    pub(crate) fn new(endpoint: String) -> Self {
        Self {
            endpoints: vec![endpoint],
            timeout: TIMEOUT,
            user_agent: USER_AGENT.to_owned(),
            tls: Tls::new(),
            token: None,
            request_id: None,
            near_cache: Some(NearCache::new()),
            clock: Arc::new(SystemClock),
        }
    }

    /// One more endpoint. Calls go round all addresses of all endpoints.
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoints.push(endpoint.into());
        self
    }

    /// How long a call may take, connecting and further tries included; 1 s unless set, 24 h at most.
    ///
    /// On a stream this bounds its opening only. [`Client::with_timeout`] sets another one for some calls.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.min(LONGEST_TIMEOUT);
        self
    }

    /// Who calls, for the service's log, such as `orders/1.4`.
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = user_agent.into();
        self
    }

    /// How `https://` endpoints are verified; with the machine's own roots unless set.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// What proves to the service who calls.
    pub fn caller_token(mut self, token: CallerToken) -> Self {
        self.token = Some(token);
        self
    }

    /// Names all calls of this client in the service's log and in the audit log (`x-request-id`), for a client that does one thing: 1
    /// to 64 visible ASCII characters. Unless set, the service names each call.
    pub fn request_id(mut self, request_id: impl Into<String>) -> Self {
        self.request_id = Some(request_id.into());
        self
    }

    /// How much is kept in this process, and for how long.
    pub fn near_cache(mut self, near_cache: NearCache) -> Self {
        self.near_cache = Some(near_cache);
        self
    }

    /// Keeps nothing in this process: each validation is a question to the service.
    pub fn without_near_cache(mut self) -> Self {
        self.near_cache = None;
        self
    }

    /// Another clock for the near-cache, for tests.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// A client that connects when it is first used, and again whenever a connection is lost.
    ///
    /// Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::Setup`] when an endpoint, the user agent, the TLS settings or the caller token cannot be used.
    pub fn connect_lazy(self) -> Result<Client, Error> {
        let transport = self.transport()?;
        self.client(transport)
    }

    /// A client that is connected already; it connects again whenever a connection is lost.
    ///
    /// # Errors
    /// [`Error::Setup`] as for [`Self::connect_lazy`], [`Error::Unreachable`] when nobody answers within 1 s.
    pub async fn connect(self) -> Result<Client, Error> {
        let transport = self.transport()?;
        transport.connect().await?;
        self.client(transport)
    }

    fn transport(&self) -> Result<Transport, Error> {
        let tls = self.tls.config();
        // A replica that does not answer leaves half of the time to try another one.
        let connect_timeout = (self.timeout / 2).min(LONGEST_CONNECT_TIMEOUT);
        let target = |url: &String| Target::new(url, &self.user_agent, connect_timeout, &tls);
        let targets = self.endpoints.iter().map(target).collect::<Result<_, _>>()?;
        let request_id = self.request_id.as_deref().map(request_id).transpose()?;
        Transport::new(Pool::new(targets), self.token.clone(), request_id)
    }

    fn client(self, transport: Transport) -> Result<Client, Error> {
        let memory = match self.near_cache {
            Some(settings) => {
                let near = Arc::new(Near::new(settings.limits(), self.clock)?);
                Some(Memory::new(near, settings.is_watched().then(|| transport.clone())))
            }
            None => None,
        };
        Ok(Client::new(Caller::new(transport, self.timeout), memory))
    }
}

fn request_id(text: &str) -> Result<HeaderValue, Error> {
    let fits = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    HeaderValue::from_str(text).ok().filter(|_| fits).ok_or_else(|| Error::Setup {
        message: format!("request_id must have 1 to 64 visible ASCII characters, not {text:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn plain_and_tls_endpoints_are_taken() {
        for endpoint in ["http://127.0.0.1:50051", "http://[::1]:50051", "http://tenant-auth", "https://host"]
        {
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
            let error = Client::builder("http://host").endpoint(endpoint).connect_lazy().unwrap_err();
            assert!(matches!(error, Error::Setup { .. }), "{endpoint}: {error:?}");
        }
        let bad = Client::builder("http://host").user_agent("two\nlines").connect_lazy();
        assert!(matches!(bad, Err(Error::Setup { .. })));
        for bad in ["", "two words", "\n", "é", &"x".repeat(65)] {
            let refused = Client::builder("http://host").request_id(bad).connect_lazy();
            assert!(matches!(refused, Err(Error::Setup { .. })), "{bad:?}");
        }
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
