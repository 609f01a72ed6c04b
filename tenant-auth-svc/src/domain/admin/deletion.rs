//! Deletes tenants.

use std::time::Instant;

use super::{Admin, AdminError, KeyCache, call, local_change};
use crate::domain::{
    audit::Actor,
    change::{ChangeKind, PerSubject},
    store::{Committed, Store, StoreError},
    tenant::{DeletedRows, DeletionState, TenantDeletion},
};

/// How many rows of each table one step deletes at most: a step is one write transaction, and other writes wait for it.
const ROWS_PER_STEP: usize = 500;
/// How many steps one call makes at most, so that a call takes seconds and not minutes.
const STEPS_PER_CALL: usize = 10;

/// The progress of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeletionProgress {
    /// Whether the tenant is deleted. If not, the call must be repeated.
    pub is_complete: bool,
    /// What this call has deleted.
    pub deleted: DeletedRows,
}

type StepOutcome = Result<Committed<(DeletionState, DeletedRows)>, StoreError>;

impl<S: Store, M: KeyCache> Admin<S, M> {
    /// Applies a step to the cache: the first and the last one, because each application checks all cached records. A step
    /// that changed nothing reveals nothing.
    fn apply_step(&self, deletion: &TenantDeletion, outcome: &StepOutcome, is_first: bool) {
        let kind = match outcome {
            Ok(Committed { outcome: (DeletionState::Active | DeletionState::NeverExisted, _), .. }) => return,
            Ok(Committed { outcome: (DeletionState::Incomplete, _), .. }) if !is_first => return,
            Ok(Committed { outcome: (DeletionState::Incomplete, _), .. }) => ChangeKind::Suspended,
            // Also after a failure: the response may have been lost after the commit.
            Ok(Committed { outcome: (DeletionState::Deleted, _), .. }) | Err(_) => ChangeKind::Changed,
        };
        self.cache.apply(&PerSubject::for_tenant(&deletion.id, local_change(kind, outcome)));
    }

    /// Deletes a suspended tenant in steps: its sessions, its keys, its usage if asked to, and then the tenant. Each step is
    /// committed, so a call after a failure continues.
    ///
    /// # Errors
    /// [`AdminError::NoSuchTenant`] when it never existed; [`AdminError::TenantNotSuspended`]; [`AdminError::Store`].
    pub async fn delete_tenant(
        &self,
        deletion: TenantDeletion,
        actor: Actor,
        deadline: Instant,
    ) -> Result<Committed<DeletionProgress>, AdminError> {
        let change = self.new_change(actor);
        let mut progress = DeletionProgress { is_complete: false, deleted: DeletedRows::default() };
        let mut steps = 0;
        loop {
            let outcome =
                self.store.delete_tenant_step(call(deadline), &deletion, ROWS_PER_STEP, &change).await;
            self.apply_step(&deletion, &outcome, steps == 0);
            let Committed { outcome: (state, deleted), revision } = outcome?;
            progress.deleted.add(deleted);
            steps += 1;
            match state {
                DeletionState::NeverExisted => return Err(AdminError::NoSuchTenant(deletion.id)),
                DeletionState::Active => return Err(AdminError::TenantNotSuspended(deletion.id)),
                DeletionState::Deleted => progress.is_complete = true,
                DeletionState::Incomplete if steps < STEPS_PER_CALL => continue,
                DeletionState::Incomplete => {}
            }
            return Ok(Committed { outcome: progress, revision });
        }
    }
}
