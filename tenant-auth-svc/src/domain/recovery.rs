//! The use cases of an operator when the database is not the one that the replicas know.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use thiserror::Error;

use super::{
    audit::Actor,
    change::ChangeKind,
    clock::SharedClock,
    identity::{DatabaseIdentity, Trust},
    store::{Call, Change, Lane, Store, StoreError},
    text::Reason,
    watch::Invalidation,
};

/// A known revocation that the database may lack.
pub type RetainedRevocation = (Invalidation, ChangeKind);

/// The state of this replica's database.
#[derive(Clone, Debug)]
pub struct DatabaseState {
    /// Whether the database is trusted.
    pub trust: Trust,
    /// For how long the read replica has been stalled; `None` while it is not.
    pub stalled_for: Option<Duration>,
    /// Revocations that are enforced although the database may lack them.
    pub retained: Vec<RetainedRevocation>,
}

/// The result of accepting a database.
#[derive(Clone, Debug)]
pub struct AcceptedDatabase {
    /// The identity after the acceptance.
    pub database: DatabaseIdentity,
    /// Revocations that this replica enforces although the database may lack them.
    pub retained: Vec<RetainedRevocation>,
    /// Whether this call accepted the database. It is false if the database was trusted already.
    pub by_this_call: bool,
}

/// Provides the state of this replica's database.
pub trait DatabaseWatch: Send + Sync + 'static {
    /// Returns the current state.
    fn state(&self) -> DatabaseState;

    /// Polls the change log at once. Fails with [`StoreError`] when the database does not respond or is not
    /// trusted.
    fn poll_now(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Why a database could not be accepted.
#[derive(Debug, Error)]
pub enum RecoveryError {
    /// No database is known that could be replaced.
    #[error(
        "this replica knows no database yet, so there is nothing to accept: it trusts the first one that it reads"
    )]
    NotKnown,
    /// The database call failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reports the state of the database, and accepts it.
#[derive(Debug)]
pub struct Recovery<S, W> {
    store: S,
    watch: W,
    clock: SharedClock,
}

impl<S: Store, W: DatabaseWatch> Recovery<S, W> {
    /// Creates the use case: `store` writes to the database, `watch` provides its state.
    pub fn new(store: S, watch: W, clock: SharedClock) -> Self {
        Self { store, watch, clock }
    }

    /// Returns the state of this replica's database.
    pub fn state(&self) -> DatabaseState {
        self.watch.state()
    }

    /// Accepts the database as it is, for all replicas. It has no effect if this replica trusts the database
    /// already, so a repeated call changes nothing.
    ///
    /// # Errors
    /// [`RecoveryError::NotKnown`]; [`RecoveryError::Store`], after which the database may have been
    /// accepted.
    pub async fn accept(
        &self,
        reason: &Reason,
        actor: Actor,
        deadline: Instant,
    ) -> Result<AcceptedDatabase, RecoveryError> {
        let state = self.watch.state();
        let known = state.trust.known.ok_or(RecoveryError::NotKnown)?;
        if state.trust.distrust.is_none() {
            return Ok(AcceptedDatabase { database: known, retained: state.retained, by_this_call: false });
        }
        let change = Change { actor, at: self.clock.now() };
        let database =
            self.store.accept_database(Call::until(Lane::Admin, deadline), &known, reason, &change).await?;
        // The other replicas see it at their next poll. This one polls at once.
        self.watch.poll_now().await?;
        Ok(AcceptedDatabase { database, retained: self.watch.state().retained, by_this_call: true })
    }
}
