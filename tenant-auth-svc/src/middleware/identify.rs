//! Assigns the request id and identifies the caller.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use arc_swap::{ArcSwapOption, Guard};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Request, Response, header::AUTHORIZATION};
use tokio::sync::watch;
use tower::{Layer, Service};
use uuid::Uuid;

use crate::{
    domain::access::{Caller as KnownCaller, Callers, TokenHash},
    grpc::{
        context::{CallerLabel, CallerName, RequestId, RpcRecord},
        permits::PermitHolder,
    },
    transport::Peer,
};

/// The header of the request id, in both directions.
pub const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// The maximum length of a request id of the caller.
const MAX_REQUEST_ID_LEN: usize = 64;

/// The caller, for authorization.
#[derive(Clone, Debug)]
pub enum Identity {
    /// The service has no callers file, so every caller may call.
    Anyone,
    /// A caller of the callers file, with its roles.
    Known(Arc<KnownCaller>),
    /// A caller without a known token or certificate.
    Unknown,
}

/// The current callers; `None` permits every caller. A reload of the callers file replaces them and notifies
/// the subscribers.
#[derive(Clone, Debug)]
pub struct CallerDirectory(Arc<CallerListing>);

#[derive(Debug)]
struct CallerListing {
    callers: ArcSwapOption<Callers>,
    replaced: watch::Sender<()>,
}

impl CallerDirectory {
    /// Creates a directory; with `None` every caller may call.
    #[must_use]
    pub fn new(callers: Option<Callers>) -> Self {
        let callers = ArcSwapOption::new(callers.map(Arc::new));
        Self(Arc::new(CallerListing { callers, replaced: watch::Sender::new(()) }))
    }

    /// Replaces the callers and notifies the subscribers.
    pub fn replace(&self, callers: Callers) {
        // Stored before the notification: a notified subscriber must not read the old callers.
        self.0.callers.store(Some(Arc::new(callers)));
        self.0.replaced.send_replace(());
    }

    /// Returns the current callers.
    pub(crate) fn load(&self) -> Guard<Option<Arc<Callers>>> {
        self.0.callers.load()
    }

    /// Subscribes to all later replacements.
    pub(super) fn watch(&self) -> watch::Receiver<()> {
        self.0.replaced.subscribe()
    }
}

/// Assigns a request id (the caller's own, if it is valid), identifies the caller, and returns the id in the
/// response.
#[derive(Clone, Debug)]
pub struct IdentifyLayer(CallerDirectory);

impl IdentifyLayer {
    /// Creates a layer for these callers.
    #[must_use]
    pub fn new(callers: CallerDirectory) -> Self {
        Self(callers)
    }
}

impl<S> Layer<S> for IdentifyLayer {
    type Service = Identify<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Identify { inner, callers: self.0.clone() }
    }
}

/// The service of [`IdentifyLayer`].
#[derive(Clone, Debug)]
pub struct Identify<S> {
    inner: S,
    callers: CallerDirectory,
}

impl<S, In, Out> Service<Request<In>> for Identify<S>
where
    S: Service<Request<In>, Response = Response<Out>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = futures::future::BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<In>) -> Self::Future {
        let id = request_id(&request);
        let credential = PresentedCredential::of(request.extensions(), request.headers());
        let identity =
            identify_caller(self.callers.load().as_deref(), credential, request.extensions().get());
        let caller = match &identity {
            Identity::Known(caller) => Arc::clone(&caller.name),
            Identity::Anyone | Identity::Unknown => unknown_caller_label(request.extensions().get()),
        };
        let holder =
            PermitHolder { name: Arc::clone(&caller), is_known: !matches!(identity, Identity::Unknown) };
        let extensions = request.extensions_mut();
        if let Identity::Known(caller) = &identity {
            extensions.insert(CallerName(Arc::clone(&caller.name)));
        }
        extensions.insert(RequestId(Arc::clone(&id)));
        extensions.insert(holder);
        extensions.insert(CallerLabel(caller));
        extensions.insert(match identity {
            Identity::Unknown => RpcRecord::from_unknown_caller(),
            Identity::Anyone | Identity::Known(_) => RpcRecord::default(),
        });
        extensions.insert(identity);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            if let Ok(id) = HeaderValue::from_str(&id) {
                response.headers_mut().insert(REQUEST_ID_HEADER, id);
            }
            Ok(response)
        })
    }
}

/// Returns the caller's id if it is valid, or a new one.
fn request_id<B>(request: &Request<B>) -> Arc<str> {
    let sent_id = request.headers().get(REQUEST_ID_HEADER).filter(|id| is_valid_request_id(id.as_bytes()));
    let sent_id = sent_id.and_then(|id| id.to_str().ok());
    sent_id.map_or_else(|| Uuid::now_v7().simple().to_string().into(), Into::into)
}

/// Returns whether an id is short and printable without spaces, so that it cannot corrupt a log line.
pub(crate) fn is_valid_request_id(id: &[u8]) -> bool {
    (1..=MAX_REQUEST_ID_LEN).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

/// The credential in the headers of a request, in addition to the certificate of its connection. It has only
/// the hash of a token, so that a stream may keep it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PresentedCredential {
    /// No token: the certificate identifies the caller.
    Absent,
    /// A token.
    Token(TokenHash),
    /// An `authorization` header without a bearer token.
    Invalid,
}

impl PresentedCredential {
    /// Returns the credential of a request: the one that this process has set for a call of its own, or that in the headers.
    pub(crate) fn of(extensions: &Extensions, headers: &HeaderMap) -> Self {
        extensions.get().copied().unwrap_or_else(|| Self::from_headers(headers))
    }

    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        let Some(value) = headers.get(AUTHORIZATION) else { return Self::Absent };
        let token = value.to_str().ok().and_then(bearer_token);
        token.map_or(Self::Invalid, |token| Self::Token(TokenHash::of(token)))
    }

    /// Identifies the caller. A token that is sent must be valid: the certificate is no fallback.
    pub(crate) fn identify(self, callers: &Callers, peer: Option<&Peer>) -> Identity {
        let caller = match self {
            Self::Token(hash) => callers.by_token_hash(hash),
            Self::Invalid => None,
            Self::Absent => peer
                .and_then(|peer| peer.certificate.as_ref())
                .and_then(|names| callers.by_certificate_names(&names.dns, &names.uris)),
        };
        caller.map_or(Identity::Unknown, |caller| Identity::Known(Arc::clone(caller)))
    }
}

/// Identifies the caller by the credential of the request and the certificate of the connection.
pub(crate) fn identify_caller(
    callers: Option<&Callers>,
    credential: PresentedCredential,
    peer: Option<&Peer>,
) -> Identity {
    callers.map_or(Identity::Anyone, |callers| credential.identify(callers, peer))
}

/// Returns the token of `Bearer <token>`; HTTP ignores the case of the scheme.
fn bearer_token(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

/// Returns the label of a caller without a name: its address.
pub(crate) fn unknown_caller_label(peer: Option<&Peer>) -> Arc<str> {
    peer.map_or_else(
        || "unauthenticated".into(),
        |peer| format!("unauthenticated@{}", peer.address.ip()).into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_request_id_is_kept_and_others_are_replaced() {
        let id = |value: &str| {
            let request = Request::builder().header(REQUEST_ID_HEADER, value).body(()).unwrap();
            request_id(&request).to_string()
        };
        assert_eq!(id("order-17/a"), "order-17/a");
        for bad in ["", "two words", &"x".repeat(65)] {
            assert_eq!(id(bad).len(), 32, "{bad:?}");
        }
        assert_eq!(request_id(&Request::new(())).len(), 32);
    }
}
