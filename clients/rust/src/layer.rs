//! Lets only requests with a good key through to a service of yours.

mod refusal;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{
    HeaderMap, HeaderName, Request, Response,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use tower_layer::Layer;
use tower_service::Service;

use self::refusal::Refusal;
use crate::{Client, PresentedKey, Principal};

/// A tower layer, for axum and tonic alike: requests with a good key go on, with the [`Principal`] in their extensions.
///
/// All others are answered here. Over HTTP: 401 without a key or with one that is unknown, malformed, expired or
/// revoked; 403 for a missing scope or a suspended tenant; 429 for a spent quota; and 503 with `retry-after` when nobody
/// knows. Requests whose content type is gRPC's get UNAUTHENTICATED, PERMISSION_DENIED, RESOURCE_EXHAUSTED or
/// UNAVAILABLE instead.
#[derive(Clone, Debug)]
#[must_use]
pub struct AuthenticateLayer(Arc<Settings>);

#[derive(Clone, Debug)]
struct Settings {
    client: Client,
    header: HeaderName,
    required_scopes: Vec<String>,
}

impl AuthenticateLayer {
    /// Takes the key from `authorization: Bearer …`.
    pub fn new(client: Client) -> Self {
        Self(Arc::new(Settings { client, header: AUTHORIZATION, required_scopes: Vec::new() }))
    }

    /// A scope that the key must hold; may be called again for more.
    pub fn requires(self, scope: impl Into<String>) -> Self {
        let mut settings = Arc::unwrap_or_clone(self.0);
        settings.required_scopes.push(scope.into());
        Self(Arc::new(settings))
    }

    /// Takes the key from another header, such as `x-api-key`, which holds it and nothing else.
    pub fn header(self, name: HeaderName) -> Self {
        let mut settings = Arc::unwrap_or_clone(self.0);
        settings.header = name;
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
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let settings = Arc::clone(&self.settings);
        // The one that is ready; its clone is for the next request.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        Box::pin(async move {
            let is_grpc = is_grpc(request.headers());
            match settings.decide(request.headers()).await {
                Ok(principal) => {
                    request.extensions_mut().insert(principal);
                    inner.call(request).await
                }
                Err(refusal) => Ok(if is_grpc { refusal.into_grpc() } else { refusal.into_http() }),
            }
        })
    }
}

impl Settings {
    /// Reads the key before it waits: a request's headers need not be shared between threads.
    fn decide(
        &self,
        headers: &HeaderMap,
    ) -> impl Future<Output = Result<Principal, Refusal>> + Send + use<'_> {
        let key = self.key(headers);
        async move {
            let key = key.ok_or(Refusal::NoKey)?;
            let scopes: Vec<_> = self.required_scopes.iter().map(String::as_str).collect();
            match self.client.validate(&key, &scopes).await {
                Ok(validation) => validation.into_principal().map_err(Refusal::Denied),
                Err(error) => Err(Refusal::from(error)),
            }
        }
    }

    fn key(&self, headers: &HeaderMap) -> Option<PresentedKey> {
        let value = headers.get(&self.header)?.to_str().ok()?;
        let key = if self.header == AUTHORIZATION {
            let (scheme, key) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())?
        } else {
            value
        };
        (!key.is_empty()).then(|| PresentedKey::new(key))
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    content_type.is_some_and(|value| value.starts_with(b"application/grpc"))
}
