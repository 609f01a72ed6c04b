//! Costs, and decisions about them.

use std::sync::Arc;

use arrayvec::ArrayVec;
use thiserror::Error;

use super::{
    Limit, LimitAmount,
    counter::{DecidedBy, LimitStatus},
};
use crate::domain::{store::StoreError, usage::UsageMetric};

/// An amount of a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// The metric.
    pub metric: UsageMetric,
    /// The amount: 1 to [`LimitAmount::MAX_RATE`].
    pub amount: u64,
}

/// What a request takes: each metric once.
pub type Costs = ArrayVec<Cost, 16>;

/// Which kind of limit denies a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LimitDenial {
    /// A rate.
    Rate,
    /// A quota or credits.
    Quota,
}

/// What one limit says about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitDecision {
    /// The limit.
    pub limit: Arc<Limit>,
    /// Its state after the decision.
    pub status: LimitStatus,
    /// Where it was decided.
    pub decided_by: DecidedBy,
    /// Whether it has less left than the request costs.
    pub is_exceeded: bool,
}

/// The decision about a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitOutcome {
    /// Why it is denied; `None`: everything is taken.
    pub denial: Option<LimitDenial>,
    /// What each limit says, by name.
    pub limits: Vec<LimitDecision>,
    /// Whether an earlier request with the same id had taken everything.
    pub is_repeated: bool,
}

/// Why there is no decision.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LimitError {
    /// The lease is spent and the database does not respond.
    #[error("the database does not respond, and the lease of limit {limit} is spent")]
    Undecided {
        /// The name of the limit.
        limit: String,
    },
    /// The database does not respond.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The id was used for something else.
    #[error("the id was used for other costs or for another subject")]
    IdConflict,
    /// More limits apply than a decision can take.
    #[error("more than {} limits apply to the key", MAX_LIMITS)]
    TooManyLimits,
}

/// The maximum number of limits that a request is checked against.
pub const MAX_LIMITS: usize = 32;

impl Cost {
    /// The maximum amount.
    pub const MAX: LimitAmount = LimitAmount::MAX_RATE;
}

/// Why a reservation was not ended.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ReservationError {
    /// It does not exist.
    #[error("there is no such reservation")]
    NotFound,
    /// It was settled, so it cannot be cancelled.
    #[error("the reservation was settled")]
    Settled,
    /// The database does not respond.
    #[error(transparent)]
    Store(#[from] StoreError),
}
