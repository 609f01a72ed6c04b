//! A tower layer that admits only requests with a valid key.

mod authenticator;
mod client_address;
mod costs;
mod credential;
mod log;
mod principal;
mod rejection;

use std::{
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{
    Extensions, HeaderMap, HeaderName, Method, Request, Response,
    header::{ACCESS_CONTROL_REQUEST_METHOD, CONTENT_TYPE, ORIGIN},
    request::Parts,
};
use http_body_util::{Either, Full};
use tonic::codegen::Bytes;
use tower_layer::Layer;
use tower_service::Service;

pub use self::principal::{VerifyPrincipal, VerifyPrincipalLayer};
pub(crate) use self::{
    authenticator::{Admitted, Authenticator},
    costs::{Costs, add_limit_headers},
    rejection::Rejection,
};
#[cfg(feature = "mcp")]
pub(crate) use self::{
    credential::SESSION_ID_HEADER,
    log::{LimitedLog, loggable_request_id},
    rejection::problem,
};
use crate::{Client, Cost, Error, Limits, Principal, guard::Admission, network::TrustedProxies};

/// A tower layer for axum and tonic: requests with a valid key proceed, with the [`Principal`] in their
/// extensions.
///
/// All other requests are rejected: over HTTP with `application/problem+json` (RFC 9457), and with a gRPC
/// status if the content type is gRPC; the README has the table. A CORS preflight (`OPTIONS` with `origin` and
/// `access-control-request-method`) without a key proceeds without a principal, as do requests for exempt
/// paths.
#[derive(Clone, Debug)]
#[must_use]
pub struct AuthenticateLayer(Arc<Settings>);

#[derive(Clone, Debug)]
struct Settings {
    authenticator: Authenticator,
    required_scopes: Vec<String>,
    exempt: Vec<String>,
}

/// The response body: that of your service, or that of a rejection.
pub type AuthenticatedBody<B> = Either<B, Full<Bytes>>;

impl AuthenticateLayer {
    /// Creates a layer that reads the key from `authorization: Bearer …`.
    pub fn new(client: Client) -> Self {
        Self(Arc::new(Settings {
            authenticator: Authenticator::new(client),
            required_scopes: Vec::new(),
            exempt: Vec::new(),
        }))
    }

    /// Adds a scope that the key must hold; may be called more than once.
    pub fn requires(self, scope: impl Into<String>) -> Self {
        let mut settings = Arc::unwrap_or_clone(self.0);
        settings.required_scopes.push(scope.into());
        Self(Arc::new(settings))
    }

    /// Reads the key from another header, such as `x-api-key`, which contains only the key.
    pub fn header(self, name: HeaderName) -> Self {
        let mut settings = Arc::unwrap_or_clone(self.0);
        settings.authenticator.key_headers = vec![name];
        Self(Arc::new(settings))
    }

    /// Reads the key from this header, too, which contains only the key; may be called more than once. The same key in
    /// several headers is one credential; different keys are ambiguous.
    pub fn or_header(self, name: HeaderName) -> Self {
        let mut settings = Arc::unwrap_or_clone(self.0);
        settings.authenticator.key_headers.push(name);
        Self(Arc::new(settings))
    }

    /// Reads the address of the peer from the extensions of a request. Without it, keys that are limited to networks are
    /// denied. With axum: `|all| Some(all.get::<ConnectInfo<SocketAddr>>()?.0.ip())`; with tonic:
    /// `|all| Some(all.get::<TcpConnectInfo>()?.remote_addr()?.ip())`.
    pub fn peer_address<F>(self, read: F) -> Self
    where
        F: Fn(&Extensions) -> Option<IpAddr> + Send + Sync + 'static,
    {
        let mut settings = Arc::unwrap_or_clone(self.0);
        settings.authenticator.client_address.peer = Arc::new(read);
        Self(Arc::new(settings))
    }

    /// Trusts the forwarding header of requests whose peer is in one of these networks: your proxies, and nothing else.
    /// At most 32.
    ///
    /// # Errors
    /// [`Error::Setup`] for a text that is not a network in CIDR notation or an address.
    pub fn trusted_proxies<T: AsRef<str>>(self, networks: &[T]) -> Result<Self, Error> {
        let mut settings = Arc::unwrap_or_clone(self.0);
        settings.authenticator.client_address.proxies = TrustedProxies::parse(networks)?;
        Ok(Self(Arc::new(settings)))
    }

    /// Reads forwarded addresses from another header than `x-forwarded-for`, such as `cf-connecting-ip`. Only trusted
    /// proxies may set it.
    pub fn client_address_header(self, name: HeaderName) -> Self {
        let mut settings = Arc::unwrap_or_clone(self.0);
        settings.authenticator.client_address.header = name;
        Self(Arc::new(settings))
    }

    /// Takes these amounts from the limits of the key with each request, 1 to 16: [`Client::consume`] in place of a
    /// validation. Requests that a limit denies are 429, or RESOURCE_EXHAUSTED; others have the [`Limits`] in their extensions,
    /// and their responses name them.
    pub fn costs(self, costs: impl IntoIterator<Item = Cost>) -> Self {
        self.with_costs(Costs::fixed(costs))
    }

    /// Takes the amounts that a function returns for a request, as [`Self::costs`]. If it returns none, the key is only
    /// validated.
    pub fn costs_of<F>(self, costs: F) -> Self
    where
        F: Fn(&Parts) -> Vec<Cost> + Send + Sync + 'static,
    {
        self.with_costs(Costs::of(costs))
    }

    fn with_costs(self, costs: Costs) -> Self {
        let mut settings = Arc::unwrap_or_clone(self.0);
        settings.authenticator.costs = Some(costs);
        Self(Arc::new(settings))
    }

    /// Adds a path that needs no key, exactly as requested, such as `/healthz` or
    /// `/grpc.health.v1.Health/Check`; may be called more than once. Requests for it proceed without a
    /// principal.
    pub fn exempt(self, path: impl Into<String>) -> Self {
        let mut settings = Arc::unwrap_or_clone(self.0);
        settings.exempt.push(path.into());
        Self(Arc::new(settings))
    }
}

impl<S> Layer<S> for AuthenticateLayer {
    type Service = Authenticate<S>;

    fn layer(&self, inner: S) -> Authenticate<S> {
        Authenticate { inner, settings: Arc::clone(&self.0) }
    }
}

/// The service behind an [`AuthenticateLayer`].
#[derive(Clone, Debug)]
pub struct Authenticate<S> {
    inner: S,
    settings: Arc<Settings>,
}

impl<S, B, R> Service<Request<B>> for Authenticate<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response<AuthenticatedBody<R>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let settings = Arc::clone(&self.settings);
        // `self.inner` is the service that was polled ready; the clone serves the next request.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let needs_key = settings.needs_key(&request);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let decision = if needs_key { Some(settings.decide(&parts).await) } else { None };
            respond(&mut inner, Request::from_parts(parts, body), decision).await
        })
    }
}

/// What a request is passed on with.
struct Pass<P> {
    principal: P,
    limits: Option<Limits>,
}

/// Calls the service with an admitted request, and rejects others. `None` admits a request without a principal.
async fn respond<S, B, R, P>(
    inner: &mut S,
    mut request: Request<B>,
    decision: Option<Result<Pass<P>, Rejection>>,
) -> Result<Response<AuthenticatedBody<R>>, S::Error>
where
    S: Service<Request<B>, Response = Response<R>>,
    P: Clone + Send + Sync + 'static,
{
    let is_grpc = is_grpc(request.headers());
    let limits = match decision {
        None => None,
        Some(Ok(Pass { principal, limits })) => {
            request.extensions_mut().insert(principal);
            if let Some(limits) = limits.clone() {
                request.extensions_mut().insert(limits);
            }
            limits
        }
        Some(Err(rejection)) if is_grpc => return Ok(rejection.into_grpc().map(Either::Right)),
        Some(Err(rejection)) => return Ok(rejection.into_http().map(Either::Right)),
    };
    let mut response = inner.call(request).await?;
    if let Some(limits) = limits.filter(|_| !is_grpc) {
        add_limit_headers(response.headers_mut(), &limits);
    }
    Ok(response.map(Either::Left))
}

pub(crate) fn is_exempt<B>(paths: &[String], request: &Request<B>) -> bool {
    paths.iter().any(|path| path == request.uri().path())
}

/// Whether a request is a CORS preflight. Browsers send no credentials with it.
pub(crate) fn is_preflight<B>(request: &Request<B>) -> bool {
    let has = |name| request.headers().contains_key(name);
    request.method() == Method::OPTIONS && has(ORIGIN) && has(ACCESS_CONTROL_REQUEST_METHOD)
}

impl Settings {
    fn needs_key<B>(&self, request: &Request<B>) -> bool {
        let has_header =
            self.authenticator.key_headers.iter().any(|name| request.headers().contains_key(name));
        !is_exempt(&self.exempt, request) && (has_header || !is_preflight(request))
    }

    async fn decide(&self, request: &Parts) -> Result<Pass<Principal>, Rejection> {
        let Admitted { principal, key, client, limits } =
            self.authenticator.admit(request, &self.required_scopes).await?;
        let scopes: Vec<_> = self.required_scopes.iter().map(String::as_str).collect();
        let principal = principal.with_credentials(client.credentials(Admission::Key(key), &scopes));
        Ok(Pass { principal, limits })
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    content_type.is_some_and(|value| value.starts_with(b"application/grpc"))
}
