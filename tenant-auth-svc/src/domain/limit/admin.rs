//! The use cases of operators: limits, credits, and what is used.

use std::time::Instant;

use thiserror::Error;

use super::{
    Limit, LimitName, LimitState, LimitSubject,
    store::{CreditAdjustment, CreditOutcome, LimitCursor, LimitHolder, LimitStore, SetLimit},
};
use crate::domain::{
    audit::Actor,
    clock::SharedClock,
    page::{Page, PageRequest},
    store::{Call, Change, Committed, Lane, StoreError},
};

/// Why a request about limits failed.
#[derive(Debug, Error)]
pub enum LimitAdminError {
    /// There is no such tenant or key.
    #[error("there is no {} {}", .0.scope(), .0.id())]
    NoSuchSubject(LimitSubject),
    /// There is no such limit.
    #[error("{} {} has no limit {}", .subject.scope(), .subject.id(), .name.as_str())]
    NoSuchLimit {
        /// Whose limit it would be.
        subject: LimitSubject,
        /// Its name.
        name: LimitName,
    },
    /// No limit of this name applies to the subject.
    #[error("no limit {} applies to {} {}", .name.as_str(), .subject.scope(), .subject.id())]
    NoneApplies {
        /// The tenant or key.
        subject: LimitSubject,
        /// The name.
        name: LimitName,
    },
    /// The limit has another version than expected.
    #[error("limit {} has changed since it was read: its version is now {version}", .name.as_str())]
    Changed {
        /// The limit.
        name: LimitName,
        /// Its current version; 0 if it does not exist.
        version: i64,
    },
    /// The limit is a quota or a rate.
    #[error("limit {} has no credits: it is a quota or a rate", .0.as_str())]
    NoCredits(LimitName),
    /// The id was used for another adjustment.
    #[error("adjustment_id {0} was used for another limit, subject or amount: use a new id")]
    AdjustmentIdReused(String),
    /// The database call failed. The change may have been made all the same; repeating the request is safe.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The credits of a limit after an adjustment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adjusted {
    /// All credits that were ever added, less those taken away.
    pub credited: i64,
    /// What no replica holds and nobody has used.
    pub remaining: i64,
    /// Whether an earlier call had made the adjustment.
    pub already_added: bool,
}

/// Manages limits.
#[derive(Debug)]
pub struct LimitAdmin<S> {
    store: S,
    clock: SharedClock,
}

impl<S: LimitStore> LimitAdmin<S> {
    /// Manages the limits in `store`.
    pub fn new(store: S, clock: SharedClock) -> Self {
        Self { store, clock }
    }

    /// Creates or replaces a limit. A repeated call changes nothing and returns the limit.
    ///
    /// # Errors
    /// [`LimitAdminError::NoSuchSubject`]; [`LimitAdminError::Changed`] when the limit has another version than expected, and
    /// other values than it sets; [`LimitAdminError::Store`].
    pub async fn set(
        &self,
        limit: Limit,
        expected_version: Option<i64>,
        actor: Actor,
        deadline: Instant,
    ) -> Result<Committed<Limit>, LimitAdminError> {
        let change = self.new_change(actor);
        let set = self.store.set_limit(call(deadline), &limit, expected_version, &change).await?;
        let Committed { outcome: SetLimit { subject_exists, limit: stored }, revision } = set;
        if !subject_exists {
            return Err(LimitAdminError::NoSuchSubject(limit.subject));
        }
        match stored {
            Some(stored) if has_same_values(&stored, &limit) => Ok(Committed { outcome: stored, revision }),
            stored => {
                let version = stored.map_or(0, |stored| stored.version);
                Err(LimitAdminError::Changed { name: limit.name, version })
            }
        }
    }

    /// Reads a limit.
    ///
    /// # Errors
    /// [`LimitAdminError::NoSuchLimit`]; [`LimitAdminError::Store`].
    pub async fn get(
        &self,
        subject: LimitSubject,
        name: LimitName,
        deadline: Instant,
    ) -> Result<Limit, LimitAdminError> {
        let limit = self.store.get_limit(call(deadline), &subject, &name).await?;
        limit.ok_or(LimitAdminError::NoSuchLimit { subject, name })
    }

    /// Lists the limits of a subject by name, or all limits by subject and name.
    ///
    /// # Errors
    /// [`LimitAdminError::Store`].
    pub async fn list(
        &self,
        subject: Option<LimitSubject>,
        page: PageRequest<LimitCursor>,
        deadline: Instant,
    ) -> Result<Page<Limit, LimitCursor>, LimitAdminError> {
        Ok(self.store.list_limits(call(deadline), subject.as_ref(), &page).await?)
    }

    /// Deletes a limit, and returns whether it existed.
    ///
    /// # Errors
    /// [`LimitAdminError::Store`].
    pub async fn delete(
        &self,
        subject: LimitSubject,
        name: LimitName,
        actor: Actor,
        deadline: Instant,
    ) -> Result<Committed<bool>, LimitAdminError> {
        let change = self.new_change(actor);
        Ok(self.store.delete_limit(call(deadline), &subject, &name, &change).await?)
    }

    /// Adds credits, once for each id of an adjustment.
    ///
    /// # Errors
    /// [`LimitAdminError::NoSuchSubject`]; [`LimitAdminError::NoneApplies`]; [`LimitAdminError::NoCredits`];
    /// [`LimitAdminError::AdjustmentIdReused`]; [`LimitAdminError::Store`].
    pub async fn add_credits(
        &self,
        adjustment: CreditAdjustment,
        actor: Actor,
        deadline: Instant,
    ) -> Result<Committed<Adjusted>, LimitAdminError> {
        let change = self.new_change(actor);
        let Committed { outcome, revision } =
            self.store.add_credits(call(deadline), &adjustment, &change).await?;
        let CreditAdjustment { holder, name, id, .. } = adjustment;
        let subject = holder.into();
        match outcome {
            CreditOutcome::Adjusted { credited, remaining, already_added } => {
                Ok(Committed { outcome: Adjusted { credited, remaining, already_added }, revision })
            }
            CreditOutcome::NoSuchSubject => Err(LimitAdminError::NoSuchSubject(subject)),
            CreditOutcome::NoSuchLimit => Err(LimitAdminError::NoneApplies { subject, name }),
            CreditOutcome::NoCredits => Err(LimitAdminError::NoCredits(name)),
            CreditOutcome::IdReused => Err(LimitAdminError::AdjustmentIdReused(id.as_str().to_owned())),
        }
    }

    /// Reads what is used of the limits that apply to a tenant or a key, in the order of their names.
    ///
    /// # Errors
    /// [`LimitAdminError::NoSuchSubject`]; [`LimitAdminError::Store`].
    pub async fn state(
        &self,
        holder: LimitHolder,
        deadline: Instant,
    ) -> Result<Vec<LimitState>, LimitAdminError> {
        let counted = self.store.limit_state(call(deadline), &holder).await?;
        let counted = counted.ok_or_else(|| LimitAdminError::NoSuchSubject(holder.into()))?;
        Ok(counted.into_iter().map(|(limit, count)| LimitState::of(limit, &count)).collect())
    }

    fn new_change(&self, actor: Actor) -> Change {
        Change { actor, at: self.clock.now() }
    }
}

fn call(deadline: Instant) -> Call {
    Call::until(Lane::Admin, deadline)
}

fn has_same_values(stored: &Limit, wanted: &Limit) -> bool {
    (&stored.metric, &stored.rule, stored.on_outage, stored.shadow)
        == (&wanted.metric, &wanted.rule, wanted.on_outage, wanted.shadow)
}
