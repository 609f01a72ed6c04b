//! Settings of a client and of its connections.

use std::{sync::Arc, time::Duration};

use http::HeaderValue;

use crate::{
    CallerToken, Client, Clock, Error, NearCache, Tls,
    call::RpcClient,
    clock::SystemClock,
    guard::GuardRegistry,
    near::{AnswerCache, CacheHandle},
    options,
    transport::{Target, Transport, read_endpoints},
};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum time that [`ClientBuilder::connect`] waits.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_GUARD_TOLERANCE: Duration = Duration::from_secs(10);
const MAX_USER_AGENT_LEN: usize = 200;
const DEFAULT_USER_AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

/// Settings of a [`Client`]; see [`Client::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ClientBuilder {
    endpoints: Vec<String>,
    timeout: Duration,
    hedge_after: Option<Duration>,
    user_agent: String,
    tls: Option<Tls>,
    token: Option<CallerToken>,
    request_id: Option<String>,
    near_cache: Option<NearCache>,
    clock: Arc<dyn Clock>,
    guard_tolerance: Duration,
}

impl ClientBuilder {
    pub(crate) fn new(endpoint: String) -> Self {
        Self {
            endpoints: vec![endpoint],
            timeout: DEFAULT_TIMEOUT,
            hedge_after: None,
            user_agent: DEFAULT_USER_AGENT.to_owned(),
            tls: None,
            token: None,
            request_id: None,
            near_cache: Some(NearCache::new()),
            clock: Arc::new(SystemClock),
            guard_tolerance: DEFAULT_GUARD_TOLERANCE,
        }
    }

    /// Adds an endpoint, or several separated by commas. Calls are distributed over all addresses of all
    /// endpoints.
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoints.push(endpoint.into());
        self
    }

    /// Sets the maximum time of a call, including connecting and retries. Default: 1 s; maximum: 24 h.
    ///
    /// For a stream, this limits only its opening. [`Client::with_timeout`] sets another timeout for some
    /// calls.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the time without a response after which a read-only request is also sent to another replica
    /// (hedging). Default: a quarter of the timeout of the call; maximum: 24 h. Requests that change
    /// something are never sent to two replicas at once.
    pub fn hedge_after(mut self, time: Duration) -> Self {
        self.hedge_after = Some(time);
        self
    }

    /// Sets the name of the calling service for the log of tenant-auth, such as `orders/1.4`: at most 200
    /// printable ASCII characters.
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = user_agent.into();
        self
    }

    /// Uses TLS with these settings. An `https://` endpoint alone uses TLS with the system's root
    /// certificates.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Sets the token that authenticates this service to tenant-auth.
    pub fn caller_token(mut self, token: CallerToken) -> Self {
        self.token = Some(token);
        self
    }

    /// Sets one request id (`x-request-id`) for all calls of this client, in the log of the service and in
    /// the audit log; useful for a client with a single task. 1 to 64 visible ASCII characters. Default: the
    /// service assigns an id to each call.
    pub fn request_id(mut self, request_id: impl Into<String>) -> Self {
        self.request_id = Some(request_id.into());
        self
    }

    /// Sets the size and the lifetimes of the near-cache.
    pub fn near_cache(mut self, near_cache: NearCache) -> Self {
        self.near_cache = Some(near_cache);
        self
    }

    /// Disables the near-cache: every validation is a request to the service.
    pub fn without_near_cache(mut self) -> Self {
        self.near_cache = None;
        self
    }

    /// Sets how long a guarded stream continues while nothing can be decided about its key. Default: 10 s; maximum: 24 h.
    pub fn guard_tolerance(mut self, time: Duration) -> Self {
        self.guard_tolerance = time;
        self
    }

    /// Sets another clock for the near-cache, for tests.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Returns a client that connects on first use, and reconnects when a connection is lost.
    ///
    /// Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::Setup`] if an endpoint or another setting is invalid.
    pub fn connect_lazy(self) -> Result<Client, Error> {
        let transport = self.build_transport()?;
        self.build_client(transport)
    }

    /// Returns a client that is already connected, and reconnects when a connection is lost.
    ///
    /// # Errors
    /// [`Error::Setup`] as for [`Self::connect_lazy`]; [`Error::Unreachable`] if no replica answers within 5
    /// s.
    pub async fn connect(self) -> Result<Client, Error> {
        let transport = self.build_transport()?;
        let late =
            |_| Error::Unreachable { message: format!("no replica answered within {CONNECT_TIMEOUT:?}") };
        tokio::time::timeout(CONNECT_TIMEOUT, transport.connect()).await.map_err(late)??;
        self.build_client(transport)
    }

    fn build_transport(&self) -> Result<Transport, Error> {
        options::check_duration("timeout", self.timeout)?;
        if let Some(time) = self.hedge_after {
            options::check_duration("hedge_after", time)?;
        }
        let user_agent = options::check_text("user_agent", &self.user_agent, MAX_USER_AGENT_LEN)?;
        let (addresses, is_secure) = read_endpoints(&self.endpoints, self.tls.is_some())?;
        let tls = is_secure.then(|| self.tls.clone().unwrap_or_default());
        let target = |address| Target::new(address, user_agent, tls.clone());
        let targets = addresses.into_iter().map(target).collect::<Result<_, _>>()?;
        let request_id = self.request_id.as_deref().map(request_id).transpose()?;
        Transport::new(targets, self.token.clone(), request_id)
    }

    fn build_client(self, transport: Transport) -> Result<Client, Error> {
        let tolerance = options::check_duration("guard_tolerance", self.guard_tolerance)?;
        let guards = Arc::new(GuardRegistry::new(tolerance));
        let cache = match self.near_cache {
            Some(settings) => {
                let answers = AnswerCache::new(settings.limits()?, self.clock, Arc::clone(&guards))?;
                let answers = Arc::new(answers);
                Some(CacheHandle::new(answers, settings.is_watched().then(|| transport.clone())))
            }
            None => None,
        };
        Ok(Client::new(RpcClient::new(transport, self.timeout, self.hedge_after), cache, guards))
    }
}

fn request_id(text: &str) -> Result<HeaderValue, Error> {
    let is_valid = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    HeaderValue::from_str(text).ok().filter(|_| is_valid).ok_or_else(|| Error::Setup {
        message: format!("request_id: invalid value {text:?}: must be 1 to 64 visible ASCII characters"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn plain_and_tls_endpoints_are_accepted() {
        for endpoint in [
            "http://127.0.0.1:50051",
            "http://[::1]:50051",
            "tenant-auth:50051",
            "https://host:443",
            "a:1,b:2",
        ] {
            assert!(Client::builder(endpoint).connect_lazy().is_ok(), "{endpoint}");
        }
    }

    #[tokio::test]
    async fn unusable_endpoints_are_rejected_at_build() {
        let endpoints = ["", "localhost", "ftp://host", "http://", "unix:/tmp/x", "http://a b"];
        for endpoint in endpoints {
            let error = Client::builder(endpoint).connect_lazy().unwrap_err();
            assert!(matches!(error, Error::Setup { .. }), "{endpoint}: {error:?}");
            let error = Client::builder("http://host:1").endpoint(endpoint).connect_lazy().unwrap_err();
            assert!(matches!(error, Error::Setup { .. }), "{endpoint}: {error:?}");
        }
        let bad = Client::builder("http://host:1").user_agent("two\nlines").connect_lazy();
        assert!(matches!(bad, Err(Error::Setup { .. })));
        for bad in ["", "two words", "\n", "é", &"x".repeat(65)] {
            let outcome = Client::builder("http://host:1").request_id(bad).connect_lazy();
            assert!(matches!(outcome, Err(Error::Setup { .. })), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn invalid_client_settings_are_rejected_by_name() {
        let builder = || Client::builder("127.0.0.1:1");
        let (none, long) = (Duration::ZERO, Duration::from_secs(86_401));
        let near = |cache: NearCache| builder().near_cache(cache);
        for (builder, name) in [
            (builder().timeout(none), "timeout"),
            (builder().timeout(Duration::MAX), "timeout"),
            (builder().hedge_after(none), "hedge_after"),
            (builder().hedge_after(long), "hedge_after"),
            (builder().guard_tolerance(none), "guard_tolerance"),
            (builder().user_agent(""), "user_agent"),
            (builder().user_agent("tab\tbed"), "user_agent"),
            (builder().user_agent("\u{e4}"), "user_agent"),
            (builder().user_agent("x".repeat(201)), "user_agent"),
            (near(NearCache::new().entries(0)), "NearCache::entries"),
            (near(NearCache::new().entries(10_000_001)), "NearCache::entries"),
            (near(NearCache::new().watched_for(none)), "NearCache::watched_for"),
            (near(NearCache::new().watched_for(Duration::MAX)), "NearCache::watched_for"),
        ] {
            let Err(Error::Setup { message }) = builder.connect_lazy() else {
                unreachable!("{name} was accepted")
            };
            assert!(message.contains(name) && message.contains("must be"), "{message}");
        }
        let client = builder().connect_lazy().unwrap();
        assert!(client.with_timeout(none).is_err() && client.with_timeout(long).is_err());
    }

    #[tokio::test]
    async fn closed_port_is_unreachable_lazily_or_not() {
        // A port with no listener: it was free when it was bound, and is closed again.
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
    async fn silent_peer_times_out_on_connect() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let client = Client::builder(&endpoint).timeout(Duration::from_millis(50)).connect_lazy().unwrap();
        assert_eq!(client.server_info().await.unwrap_err(), Error::DeadlineExceeded);
    }
}
