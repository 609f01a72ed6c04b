//! Guards: they end live streams when a key, its session or its tenant may no longer be used.

mod credentials;
mod ended;
mod registry;
mod rounds;
mod sse;
mod stream;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{
    FutureExt as _,
    future::{BoxFuture, Fuse},
};
use http_body::Body;

use self::rounds::Rounds;
#[cfg(feature = "mcp")]
pub(crate) use self::{credentials::SessionOfTenant, sse::EndEvent};
pub(crate) use self::{
    credentials::{Admission, Credentials},
    ended::ERROR_DOMAIN,
    registry::GuardRegistry,
};
pub use self::{
    ended::Ended,
    sse::GuardedSse,
    stream::{GuardedGrpc, GuardedStream},
};
use crate::{Client, Error, NotAdmitted, PresentedKey, Principal, options::setup_error};

/// A future that resolves when a principal may no longer be used, with the reason; see
/// [`Client::guard_connection`]. Dropping it releases it.
#[must_use = "a guard does nothing unless it is polled"]
pub struct Guard(Fuse<BoxFuture<'static, Ended>>);

impl Future for Guard {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        self.0.poll_unpin(cx)
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

impl Client {
    /// Validates one key as [`Self::require`] does. The principal keeps the key, so that it can be guarded.
    ///
    /// # Errors
    /// As for [`Self::require`].
    pub async fn require_guardable(
        &self,
        key: PresentedKey,
        required_scopes: &[&str],
    ) -> Result<Principal, NotAdmitted> {
        let principal = self.require(&key, required_scopes).await?;
        Ok(principal.with_credentials(self.credentials(Admission::Key(key), required_scopes)))
    }

    /// Validates a session as [`Self::require_session`] does. The principal keeps the session and the key, so that it can
    /// be guarded.
    ///
    /// # Errors
    /// As for [`Self::require_session`].
    pub async fn require_session_guardable(
        &self,
        session_id: &str,
        key: Option<PresentedKey>,
        required_scopes: &[&str],
    ) -> Result<Principal, NotAdmitted> {
        let principal = self.require_session(session_id, key.as_ref(), required_scopes).await?;
        let admission = Admission::Session(session_id.to_owned(), key);
        Ok(principal.with_credentials(self.credentials(admission, required_scopes)))
    }

    pub(crate) fn credentials(&self, admission: Admission, required_scopes: &[&str]) -> Credentials {
        Credentials {
            admission,
            required_scopes: required_scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            client_address: self.requirements(&[]).client_address,
        }
    }

    /// Ends a stream when its principal may no longer be used: the last item is then the reason. The source is dropped.
    ///
    /// The guard validates again, through the near-cache, as soon as the invalidation stream names the key, its session or
    /// its tenant, at the expiry, and from time to time while the invalidation stream is down.
    ///
    /// # Errors
    /// [`Error::Setup`] if the principal has no key: take it from a layer, or from [`Self::require_guardable`].
    pub fn guard<S>(&self, principal: &Principal, stream: S) -> Result<GuardedStream<S>, Error> {
        Ok(GuardedStream::new(self.guard_connection(principal)?, stream))
    }

    /// Ends the message stream of a gRPC method, as [`Self::guard`] does, with the status that a request with this key would
    /// get.
    ///
    /// # Errors
    /// As for [`Self::guard`].
    pub fn guard_grpc<S>(&self, principal: &Principal, stream: S) -> Result<GuardedGrpc<S>, Error> {
        Ok(GuardedGrpc::new(self.guard_connection(principal)?, stream))
    }

    /// Ends a body of server-sent events, as [`Self::guard`] does, with the event `end`, whose data are the `code` and the
    /// `detail` in JSON.
    ///
    /// # Errors
    /// As for [`Self::guard`].
    pub fn guard_sse<B>(&self, principal: &Principal, body: B) -> Result<GuardedSse<B>, Error>
    where
        B: Body<Data = Bytes>,
    {
        let event = |ended: &Ended| format!("event: end\ndata: {}\n\n", ended.to_json());
        Ok(GuardedSse::new(self.guard_connection(principal)?, body, Box::new(event)))
    }

    /// Returns a future that resolves when a principal may no longer be used, for connections that are no streams of
    /// responses, such as a WebSocket: close it with [`Ended::close_code`] and [`Ended::code`].
    ///
    /// # Errors
    /// As for [`Self::guard`].
    pub fn guard_connection(&self, principal: &Principal) -> Result<Guard, Error> {
        let Some(credentials) = principal.credentials() else {
            return Err(setup_error(
                "principal: it has no key to validate again: take it from a layer, or from require_guardable"
                    .to_owned(),
            ));
        };
        let registration = self.guards().register(credentials.subjects(principal));
        let rounds = Rounds { client: self.clone(), credentials: Arc::clone(credentials), registration };
        Ok(Guard(rounds.run().boxed().fuse()))
    }

    /// Returns how many guards are alive.
    #[must_use]
    pub fn guard_count(&self) -> usize {
        self.guards().len()
    }
}
