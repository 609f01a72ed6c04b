//! Operations that are answered after a commit: ids that count once, and reservations.

use std::{sync::Arc, time::Instant};

use tokio::sync::oneshot;

use super::{
    LimitDatabase, LimitLeases,
    decide::{SetAside, Take},
    lock,
};
use crate::domain::{
    key::KeyRecord,
    limit::{
        Costs, EndedReservation, LimitEnforcer, LimitError, LimitIdOutcome, LimitOutcome, NewLimitId,
        NewReservation, ReservationEnd, ReservationError, ReservationRequest, ReservedLimit,
        counter::LimitCounter,
    },
    store::{Call, FailureKind, Lane, StoreError},
};

/// An operation that waits for a commit.
pub(super) struct DurableOperation {
    pub(super) kind: OperationKind,
    /// What was taken from leases for it.
    pub(super) set_aside: SetAside,
}

/// What is committed, and who waits for it.
pub(super) enum OperationKind {
    /// An id that counts once, and a reservation if it is one.
    Id { id: NewLimitId, reservation: Option<NewReservation>, reply: oneshot::Sender<LimitIdOutcome> },
    /// The end of a reservation.
    End { id: String, end: ReservationEnd, reply: oneshot::Sender<Option<EndedReservation>> },
}

impl DurableOperation {
    /// Whether nobody waits for it: it need not be sent.
    pub(super) fn is_abandoned(&self) -> bool {
        match &self.kind {
            OperationKind::Id { reply, .. } => reply.is_closed(),
            OperationKind::End { reply, .. } => reply.is_closed(),
        }
    }

    /// What was set aside is used, or can be taken again. Returns the counters of what is used without a lease.
    pub(super) fn resolve(&self, is_used: bool) -> Vec<Arc<LimitCounter>> {
        let mut uncovered = Vec::new();
        for (counter, window, cost) in &self.set_aside {
            match window {
                Some(window) => counter.lock().resolve(*window, *cost, is_used),
                None if is_used => {
                    counter.lock().add_uncovered(*cost);
                    uncovered.push(Arc::clone(counter));
                }
                None => {}
            }
        }
        uncovered
    }
}

impl<S: LimitDatabase> LimitEnforcer for LimitLeases<S> {
    fn take_now(&self, record: &KeyRecord, costs: &Costs) -> Option<LimitOutcome> {
        self.take_at_once(record, costs)
    }

    async fn take(
        &self,
        record: &KeyRecord,
        costs: &Costs,
        deadline: Instant,
    ) -> Result<LimitOutcome, LimitError> {
        Ok(self.take_or_wait(record, costs, Take::Use, deadline).await?.0)
    }

    async fn take_once(
        &self,
        record: &KeyRecord,
        costs: &Costs,
        id: NewLimitId,
        deadline: Instant,
    ) -> Result<LimitOutcome, LimitError> {
        let (outcome, set_aside) = self.take_or_wait(record, costs, Take::SetAside, deadline).await?;
        if outcome.denial.is_some() {
            // It may be the repetition of a request that has taken the rest.
            return self.denied_or_repeated(outcome, id, deadline).await;
        }
        self.commit_id(id, None, set_aside, outcome, deadline).await
    }

    async fn reserve(
        &self,
        record: &KeyRecord,
        costs: &Costs,
        request: ReservationRequest,
        deadline: Instant,
    ) -> Result<LimitOutcome, LimitError> {
        let ReservationRequest { id, reservation_id, expires_in, charge_on_expiry } = request;
        let (outcome, set_aside) = self.take_or_wait(record, costs, Take::SetAside, deadline).await?;
        if outcome.denial.is_some() {
            return self.denied_or_repeated(outcome, id, deadline).await;
        }
        let limits = set_aside.iter().filter_map(|(counter, window_start, amount)| {
            let limit = Arc::clone(counter.lock().limit());
            Some(ReservedLimit {
                counter: counter.key.clone(),
                metric: limit.metric.clone(),
                subject: limit.subject.clone(),
                // What is admitted without a lease is not reserved.
                window_start: (*window_start)?,
                amount: *amount,
            })
        });
        let limits = limits.collect();
        let reservation = NewReservation { id: reservation_id, expires_in, charge_on_expiry, limits };
        self.commit_id(id, Some(reservation), set_aside, outcome, deadline).await
    }

    async fn end_reservation(
        &self,
        id: String,
        end: ReservationEnd,
        deadline: Instant,
    ) -> Result<EndedReservation, ReservationError> {
        let (reply, receiver) = oneshot::channel();
        self.enqueue(DurableOperation {
            kind: OperationKind::End { id, end, reply },
            set_aside: SetAside::new(),
        });
        let ended = tokio::time::timeout_at(deadline.into(), receiver).await;
        ended.ok().and_then(Result::ok).ok_or_else(not_committed)?.ok_or(ReservationError::NotFound)
    }
}

impl<S: LimitDatabase> LimitLeases<S> {
    async fn commit_id(
        &self,
        id: NewLimitId,
        reservation: Option<NewReservation>,
        set_aside: SetAside,
        outcome: LimitOutcome,
        deadline: Instant,
    ) -> Result<LimitOutcome, LimitError> {
        let (reply, receiver) = oneshot::channel();
        self.enqueue(DurableOperation { kind: OperationKind::Id { id, reservation, reply }, set_aside });
        let committed = tokio::time::timeout_at(deadline.into(), receiver).await;
        match committed.ok().and_then(Result::ok).ok_or_else(not_committed)? {
            LimitIdOutcome::New => Ok(outcome),
            LimitIdOutcome::Repeated => {
                Ok(LimitOutcome { denial: None, limits: Vec::new(), is_repeated: true })
            }
            LimitIdOutcome::Conflict => Err(LimitError::IdConflict),
        }
    }

    /// Looks whether a denied request repeats one that was admitted.
    async fn denied_or_repeated(
        &self,
        denied: LimitOutcome,
        id: NewLimitId,
        deadline: Instant,
    ) -> Result<LimitOutcome, LimitError> {
        let found = self.0.store.find_limit_id(Call::until(Lane::Limits, deadline), &id).await?;
        match found {
            None => Ok(denied),
            Some(LimitIdOutcome::Conflict) => Err(LimitError::IdConflict),
            Some(LimitIdOutcome::New | LimitIdOutcome::Repeated) => {
                Ok(LimitOutcome { denial: None, limits: Vec::new(), is_repeated: true })
            }
        }
    }

    fn enqueue(&self, operation: DurableOperation) {
        lock(&self.0.operations).push_back(operation);
        self.0.wake.notify_one();
    }
}

fn not_committed() -> StoreError {
    StoreError::new(
        FailureKind::TimedOut,
        "not committed before the caller's deadline; a repetition counts once",
    )
}
