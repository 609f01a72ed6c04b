//! The use cases of an operator whose database is not the one that replicas know.

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

/// An end that is known and that the database may lack.
pub type HeldRevocation = (Invalidation, ChangeKind);

/// What this replica thinks of its database.
#[derive(Clone, Debug)]
pub struct DatabaseState {
    /// Whether it believes it.
    pub trust: Trust,
    /// For how long the copy that it reads has stood still; `None` while it moves.
    pub stalled_for: Option<Duration>,
    /// Ends that it holds although the database may lack them.
    pub held: Vec<HeldRevocation>,
}

/// A database that was accepted.
#[derive(Clone, Debug)]
pub struct AcceptedDatabase {
    /// What it is now.
    pub database: DatabaseIdentity,
    /// Ends that this replica holds although it may lack them.
    pub held: Vec<HeldRevocation>,
    /// Whether the call has accepted it; it may have been believed already.
    pub by_this_call: bool,
}

/// Who knows what this replica thinks of its database.
pub trait DatabaseWatch: Send + Sync + 'static {
    /// What it thinks now.
    fn state(&self) -> DatabaseState;

    /// Reads the change log at once. It fails with [`StoreError`] when the database gives no answer, or is not believed.
    fn poll_now(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Why a database could not be accepted.
#[derive(Debug, Error)]
pub enum RecoveryError {
    /// There is none that could be replaced.
    #[error(
        "this replica knows no database yet, so there is nothing to accept: it believes the first one that it reads"
    )]
    NoneKnown,
    /// The database gave no answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Tells about the database, and accepts it.
#[derive(Debug)]
pub struct Recovery<S, W> {
    store: S,
    watch: W,
    clock: SharedClock,
}

impl<S: Store, W: DatabaseWatch> Recovery<S, W> {
    /// Writes to `store` whatever it is; `watch` knows what is thought of it.
    pub fn new(store: S, watch: W, clock: SharedClock) -> Self {
        Self { store, watch, clock }
    }

    /// What this replica thinks of its database.
    pub fn state(&self) -> DatabaseState {
        self.watch.state()
    }

    /// Accepts the database as it is, for every replica; nothing where this one believes it already, so that repeating it changes
    /// nothing.
    ///
    /// # Errors
    /// [`RecoveryError::NoneKnown`]; [`RecoveryError::Store`], after which it may be accepted.
    pub async fn accept(
        &self,
        reason: &Reason,
        actor: Actor,
        deadline: Instant,
    ) -> Result<AcceptedDatabase, RecoveryError> {
        let state = self.watch.state();
        let known = state.trust.known.ok_or(RecoveryError::NoneKnown)?;
        if state.trust.distrust.is_none() {
            return Ok(AcceptedDatabase { database: known, held: state.held, by_this_call: false });
        }
        let change = Change { actor, at: self.clock.now() };
        let database =
            self.store.accept_database(Call::until(Lane::Admin, deadline), &known, reason, &change).await?;
        // The others see it with their next reading of the log, and this one would.
        self.watch.poll_now().await?;
        Ok(AcceptedDatabase { database, held: self.watch.state().held, by_this_call: true })
    }
}
