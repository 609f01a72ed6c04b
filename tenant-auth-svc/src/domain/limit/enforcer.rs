//! The interface of limits to the use cases.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use super::{
    Costs, EndedReservation, LimitError, LimitOutcome, NewLimitId, ReservationEnd, ReservationError,
};
use crate::domain::key::KeyRecord;

/// A reservation to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReservationRequest {
    /// Recorded once: a repeated request reserves nothing.
    pub id: NewLimitId,
    /// The id that ends the reservation.
    pub reservation_id: String,
    /// When it ends by itself.
    pub expires_in: Duration,
    /// Whether the amounts count as used then.
    pub charge_on_expiry: bool,
}

/// Takes costs from the limits of keys. The amounts that all replicas admit never exceed a limit.
///
/// Every method fails with [`LimitError`] when the database is needed and does not respond by the deadline.
pub trait LimitEnforcer: Send + Sync + 'static {
    /// Takes costs from the limits of a key without waiting; `None` if that is impossible.
    fn take_now(&self, record: &KeyRecord, costs: &Costs) -> Option<LimitOutcome>;

    /// Takes costs from the limits of a key. Waits for the database if this replica holds too little.
    fn take(
        &self,
        record: &KeyRecord,
        costs: &Costs,
        deadline: Instant,
    ) -> impl Future<Output = Result<LimitOutcome, LimitError>> + Send;

    /// Like [`take`](Self::take), once for an id. If the deadline passes before the commit, the costs may have been taken: a
    /// repetition finds out.
    fn take_once(
        &self,
        record: &KeyRecord,
        costs: &Costs,
        id: NewLimitId,
        deadline: Instant,
    ) -> impl Future<Output = Result<LimitOutcome, LimitError>> + Send;

    /// Sets costs aside in the database, once for an id.
    fn reserve(
        &self,
        record: &KeyRecord,
        costs: &Costs,
        request: ReservationRequest,
        deadline: Instant,
    ) -> impl Future<Output = Result<LimitOutcome, LimitError>> + Send;

    /// Ends a reservation.
    fn end_reservation(
        &self,
        id: String,
        end: ReservationEnd,
        deadline: Instant,
    ) -> impl Future<Output = Result<EndedReservation, ReservationError>> + Send;
}
