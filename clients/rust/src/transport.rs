//! Carries requests to one of several replicas, in turn, with the caller's own credentials.

mod pool;
mod target;
mod token;

use std::{
    error::Error as StdError,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderName, HeaderValue, Request, Response, header::AUTHORIZATION};
use tokio::time::Instant;
use tonic::{body::Body, transport::Channel};
use tower_service::Service;

pub use self::token::CallerToken;
use self::token::CurrentToken;
pub(crate) use self::{pool::Pool, target::Target};
use crate::Error;

/// Names a request in the service's log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

type BoxError = Box<dyn StdError + Send + Sync>;

/// The connections, for clients of the generated code; see [`Client::transport`](crate::Client::transport). Clones
/// share them.
#[derive(Clone)]
pub struct Transport(Arc<Shared>);

struct Shared {
    pool: Pool,
    token: Option<CurrentToken>,
    request_id: Option<HeaderValue>,
}

impl Transport {
    /// # Errors
    /// [`Error::Setup`] when the token cannot be read.
    pub(crate) fn new(
        pool: Pool,
        token: Option<CallerToken>,
        request_id: Option<HeaderValue>,
    ) -> Result<Self, Error> {
        let token = token.map(CurrentToken::new).transpose()?;
        Ok(Self(Arc::new(Shared { pool, token, request_id })))
    }

    /// Whether some replica is not known to be away.
    pub(crate) fn is_served(&self) -> bool {
        self.0.pool.is_served()
    }

    /// Connects to any of the replicas.
    pub(crate) async fn connect(&self) -> Result<(), Error> {
        self.0.pool.connect().await
    }
}

impl Service<Request<Body>> for Transport {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // Which replica has to be ready is decided with the request.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            if let Some(token) = &shared.token {
                request.headers_mut().insert(AUTHORIZATION, token.header());
            }
            if let Some(request_id) = &shared.request_id {
                request.headers_mut().insert(REQUEST_ID, request_id.clone());
            }
            let replica = shared.pool.next().await?;
            let asked_at = Instant::now();
            match send(replica.channel(), request).await {
                Ok(reply) => {
                    replica.answered(asked_at);
                    Ok(reply)
                }
                Err(error) => {
                    replica.failed();
                    Err(error.into())
                }
            }
        })
    }
}

async fn send(
    mut channel: Channel,
    request: Request<Body>,
) -> Result<Response<Body>, tonic::transport::Error> {
    poll_fn(|cx| channel.poll_ready(cx)).await?;
    channel.call(request).await
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("pool", &self.0.pool).finish_non_exhaustive()
    }
}
