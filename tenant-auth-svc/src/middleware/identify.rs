//! Names the request and the caller.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use arc_swap::{ArcSwapOption, Guard};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header::AUTHORIZATION};
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

/// Carries the request id in both directions.
pub const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id taken over from a caller.
const MAX_REQUEST_ID_LEN: usize = 64;

/// Who calls, as far as what it may do is concerned.
#[derive(Clone, Debug)]
pub enum Identity {
    /// Nobody has said who may call, so everybody may.
    Anyone,
    /// A caller with roles.
    Known(Arc<KnownCaller>),
    /// Somebody without a token or certificate that is known.
    Unknown,
}

/// The callers in force; none for everybody. It changes with its file, and tells whoever waits for that.
#[derive(Clone, Debug)]
pub struct CallerDirectory(Arc<CallerListing>);

#[derive(Debug)]
struct CallerListing {
    callers: ArcSwapOption<Callers>,
    replaced: watch::Sender<()>,
}

impl CallerDirectory {
    /// These; `None` where everybody may call.
    #[must_use]
    pub fn new(callers: Option<Callers>) -> Self {
        let callers = ArcSwapOption::new(callers.map(Arc::new));
        Self(Arc::new(CallerListing { callers, replaced: watch::Sender::new(()) }))
    }

    /// These from now on, and whoever watches is woken.
    pub fn replace(&self, callers: Callers) {
        // First: who is woken must not find the old ones.
        self.0.callers.store(Some(Arc::new(callers)));
        self.0.replaced.send_replace(());
    }

    /// Those in force.
    pub(crate) fn load(&self) -> Guard<Option<Arc<Callers>>> {
        self.0.callers.load()
    }

    /// Learns of every replacement from now on.
    pub(super) fn watch(&self) -> watch::Receiver<()> {
        self.0.replaced.subscribe()
    }
}

/// Gives each request an id (the caller's own, if it sends a sensible one), says who calls, and sends the id back.
#[derive(Clone, Debug)]
pub struct IdentifyLayer(CallerDirectory);

impl IdentifyLayer {
    /// Knows these callers.
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
        let identity =
            identify_caller(self.callers.load().as_deref(), request.extensions().get(), request.headers());
        let caller = match &identity {
            Identity::Known(caller) => Arc::clone(&caller.name),
            Identity::Anyone | Identity::Unknown => unknown_caller_label(&request),
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

/// The caller's id if it is sensible; else a new one.
fn request_id<B>(request: &Request<B>) -> Arc<str> {
    let given = request.headers().get(REQUEST_ID_HEADER).filter(|id| is_valid_request_id(id.as_bytes()));
    let given = given.and_then(|id| id.to_str().ok());
    given.map_or_else(|| Uuid::now_v7().simple().to_string().into(), Into::into)
}

/// Whether an id is short and printable without spaces, so that it cannot garble a log.
pub(crate) fn is_valid_request_id(id: &[u8]) -> bool {
    (1..=MAX_REQUEST_ID_LEN).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

/// What a request says about who sends it, beside the certificate of its connection. Of a token only its hash, so that it
/// may be kept for as long as a stream lives.
#[derive(Clone, Copy, Debug)]
pub(super) enum PresentedCredential {
    /// No token: the certificate decides.
    Absent,
    /// A token.
    Token(TokenHash),
    /// Something where a token should be.
    Invalid,
}

impl PresentedCredential {
    pub(super) fn from_headers(headers: &HeaderMap) -> Self {
        let Some(value) = headers.get(AUTHORIZATION) else { return Self::Absent };
        let token = value.to_str().ok().and_then(bearer_token);
        token.map_or(Self::Invalid, |token| Self::Token(TokenHash::of(token)))
    }

    /// A token that is sent has to be good: nobody falls back to what its certificate allows.
    pub(crate) fn identify(self, callers: &Callers, peer: Option<&Peer>) -> Identity {
        let found = match self {
            Self::Token(hash) => callers.by_token_hash(hash),
            Self::Invalid => None,
            Self::Absent => peer
                .and_then(|peer| peer.certificate.as_ref())
                .and_then(|names| callers.by_certificate_names(&names.dns, &names.uris)),
        };
        found.map_or(Identity::Unknown, |caller| Identity::Known(Arc::clone(caller)))
    }
}

/// Who calls, going by what the request says and the connection has shown.
pub(crate) fn identify_caller(
    callers: Option<&Callers>,
    peer: Option<&Peer>,
    headers: &HeaderMap,
) -> Identity {
    let Some(callers) = callers else { return Identity::Anyone };
    PresentedCredential::from_headers(headers).identify(callers, peer)
}

/// The token of `Bearer <token>`; the word in any case, as HTTP has it.
fn bearer_token(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

/// Where somebody without a name calls from.
fn unknown_caller_label<B>(request: &Request<B>) -> Arc<str> {
    let peer = request.extensions().get::<Peer>();
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
