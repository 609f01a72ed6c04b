//! A tower layer that admits only requests with a valid principal token.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderName, Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    AuthenticatedBody, Pass, is_exempt, is_preflight,
    log::{LimitedLog, loggable_request_id},
    rejection::Rejection,
    respond,
};
use crate::{PrincipalRejected, PrincipalVerifier, VerifiedPrincipal};

/// The header in which a proxy passes the token on.
const PRINCIPAL_HEADER: HeaderName = HeaderName::from_static("x-tenant-principal");

/// A tower layer for services behind a proxy that asks tenant-auth: requests with a valid `x-tenant-principal` proceed, with
/// the [`VerifiedPrincipal`] in their extensions.
///
/// All other requests are rejected as by [`AuthenticateLayer`](crate::AuthenticateLayer): 401 without a valid token, 403 if
/// scopes are missing, and 503 if the token is outdated or cannot be verified. A CORS preflight without a token proceeds without
/// a principal.
#[derive(Clone, Debug)]
#[must_use]
pub struct VerifyPrincipalLayer(Arc<Settings>);

#[derive(Clone, Debug)]
struct Settings {
    verifier: PrincipalVerifier,
    required_scopes: Vec<String>,
    exempt: Vec<String>,
    log: Arc<LimitedLog>,
}

impl VerifyPrincipalLayer {
    /// Creates a layer for the tokens of a verifier.
    pub fn new(verifier: PrincipalVerifier) -> Self {
        let (required_scopes, exempt) = (Vec::new(), Vec::new());
        Self(Arc::new(Settings { verifier, required_scopes, exempt, log: Arc::default() }))
    }

    /// Adds a scope that the key must hold; may be called more than once.
    pub fn requires(self, scope: impl Into<String>) -> Self {
        let mut settings = Arc::unwrap_or_clone(self.0);
        settings.required_scopes.push(scope.into());
        Self(Arc::new(settings))
    }

    /// Adds a path that needs no token, exactly as requested, such as `/healthz`; may be called more than once.
    pub fn exempt(self, path: impl Into<String>) -> Self {
        let mut settings = Arc::unwrap_or_clone(self.0);
        settings.exempt.push(path.into());
        Self(Arc::new(settings))
    }
}

impl<S> Layer<S> for VerifyPrincipalLayer {
    type Service = VerifyPrincipal<S>;

    fn layer(&self, inner: S) -> VerifyPrincipal<S> {
        VerifyPrincipal { inner, settings: Arc::clone(&self.0) }
    }
}

/// The service behind a [`VerifyPrincipalLayer`].
#[derive(Clone, Debug)]
pub struct VerifyPrincipal<S> {
    inner: S,
    settings: Arc<Settings>,
}

impl<S, B, R> Service<Request<B>> for VerifyPrincipal<S>
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
        let is_preflight = is_preflight(&request);
        Box::pin(async move {
            let decision = if is_exempt(&settings.exempt, &request) {
                None
            } else {
                match settings.verify(request.headers()).await {
                    Err(Rejection::NoCredentials) if is_preflight => None,
                    decision => Some(decision.map(|principal| Pass { principal, limits: None })),
                }
            };
            respond(&mut inner, request, decision).await
        })
    }
}

impl Settings {
    /// Reads the token before the first await: the headers of a request need not be shareable between threads.
    fn verify(
        &self,
        headers: &HeaderMap,
    ) -> impl Future<Output = Result<VerifiedPrincipal, Rejection>> + Send + use<'_> {
        let mut values = headers.get_all(PRINCIPAL_HEADER).iter();
        let token = match (values.next().map(|value| value.to_str()), values.next()) {
            (_, Some(_)) => Err(Rejection::Ambiguous),
            (None, None) => Err(Rejection::NoCredentials),
            // The proxy has admitted the request without a token.
            (Some(Ok("")), None) => Err(Rejection::NoCredentials),
            (Some(Ok(token)), None) => Ok(token.to_owned()),
            (Some(Err(_)), None) => Err(PrincipalRejected::Invalid("it is not text").into()),
        };
        let request_id = loggable_request_id(headers);
        async move {
            let scopes: Vec<_> = self.required_scopes.iter().map(String::as_str).collect();
            self.verifier.verify(&token?, &scopes).await.map_err(|rejected| {
                if let PrincipalRejected::Undecided(error) = &rejected {
                    self.log.log_undecided(error, request_id.as_deref());
                }
                rejected.into()
            })
        }
    }
}
