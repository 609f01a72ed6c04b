//! Events for near-caches: changes, and heartbeats that confirm that there were no others.

use std::{future::Future, sync::Arc};

use futures::Stream;
use thiserror::Error;

use super::{
    clock::UnixMillis,
    id::{KeyId, TenantId},
    session::SessionId,
    verdict::Revision,
};

/// The subject of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One key.
    Key(KeyId),
    /// A tenant with all its keys and sessions.
    Tenant(TenantId),
    /// One session.
    Session(SessionId),
}

/// The invalidation of one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalidation {
    /// The position of the change in the log.
    pub revision: Revision,
    /// The changed subject.
    pub subject: Subject,
    /// The tenant that the subject belongs to.
    pub tenant: TenantId,
}

/// An event for subscribers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// Confirms that all changes up to the revision were published.
    Heartbeat {
        /// The revision.
        revision: Revision,
        /// The server's clock.
        at: UnixMillis,
    },
    /// These subjects changed, in this order.
    Changed(Arc<[Invalidation]>),
    /// Changes may have been missed: the subscriber must clear its cache.
    StartOver {
        /// The revision from which on the subscriber receives all changes.
        revision: Revision,
        /// A short reason.
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
    /// This replica is shutting down.
    #[error(
        "this replica is shutting down: subscribe to another one, after the last revision that was handled"
    )]
    ShuttingDown,
    /// The change feed of this replica is disabled.
    #[error(
        "this replica does not follow the change log (TENANT_AUTH_FEED_INTERVAL=off), so it has no events"
    )]
    FeedDisabled,
}

/// A source of watch events.
pub trait Watchable: Send + Sync + 'static {
    /// Subscribes to the events after a revision, or from now on. The stream ends with an error, and only
    /// with one.
    ///
    /// Fails with [`WatchError`] when no subscription is possible.
    fn watch(
        &self,
        after: Option<Revision>,
    ) -> impl Future<
        Output = Result<impl Stream<Item = Result<WatchEvent, WatchError>> + Send + 'static, WatchError>,
    > + Send;
}
