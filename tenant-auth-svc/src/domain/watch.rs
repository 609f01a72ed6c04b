//! What near-caches are told: what has changed, and that nothing else has.

use std::{future::Future, sync::Arc};

use futures::Stream;
use thiserror::Error;

use super::{
    clock::UnixMillis,
    id::{KeyId, TenantId},
    session::SessionId,
    verdict::Revision,
};

/// What a change is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One key.
    Key(KeyId),
    /// A tenant, and so all its keys and sessions.
    Tenant(TenantId),
    /// One session.
    Session(SessionId),
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalidation {
    /// Its position in the log.
    pub revision: Revision,
    /// What it is about.
    pub subject: Subject,
    /// Whose that is.
    pub tenant: TenantId,
}

/// What a subscriber is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// Nothing but the time: everything up to the revision was told.
    Heartbeat {
        /// The revision.
        revision: Revision,
        /// The server's clock.
        at: UnixMillis,
    },
    /// These have changed, in this order.
    Changed(Arc<[Invalidation]>),
    /// What was missed is not known: forget everything.
    StartOver {
        /// What the subscriber is informed up to from here on.
        revision: Revision,
        /// Why, in a few words.
        reason: &'static str,
    },
}

/// Why a subscription ends.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum WatchError {
    /// The subscriber reads too slowly.
    #[error(
        "the subscriber fell {0} events behind: subscribe again, after the last revision that was handled"
    )]
    TooSlow(u64),
    /// This replica ends.
    #[error("this replica is going: subscribe at another one, after the last revision that was handled")]
    ShuttingDown,
    /// This replica does not follow the change log.
    #[error(
        "this replica does not follow the change log (TENANT_AUTH_FEED_INTERVAL=off), so it has nothing to tell"
    )]
    FeedDisabled,
}

/// Where to subscribe.
pub trait Watchable: Send + Sync + 'static {
    /// What happens after a revision, or from now on. It ends with an error, and only with one.
    ///
    /// Fails with [`WatchError`] when there is nothing to subscribe to.
    fn watch(
        &self,
        after: Option<Revision>,
    ) -> impl Future<
        Output = Result<impl Stream<Item = Result<WatchEvent, WatchError>> + Send + 'static, WatchError>,
    > + Send;
}
