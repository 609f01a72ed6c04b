//! What is said in one exchange, and who waits for it.

use std::sync::Arc;

use uuid::Uuid;

use crate::{
    domain::limit::{Exchange, ExchangeResponse, LeaseRequest, LimitIdOutcome, counter::LimitCounter},
    limit_leases::durable::{DurableOperation, OperationKind},
};

/// The maximum number of leases, and of operations, in one exchange. It keeps the statements well below the size limits of
/// database servers.
const MAX_ENTRIES: usize = 500;

/// An exchange and its parts.
pub(super) struct Batch {
    pub(super) exchange: Exchange,
    /// The counters of the leases, in order.
    pub(super) leases: Vec<(Arc<LimitCounter>, LeaseRequest)>,
    ids: Vec<DurableOperation>,
    ends: Vec<DurableOperation>,
}

impl Batch {
    pub(super) fn new(known_log: i64) -> Self {
        let (_, random) = Uuid::now_v7().as_u64_pair();
        let id = i64::try_from(random & (u64::MAX >> 1)).unwrap_or(i64::MAX);
        let exchange = Exchange { id, known_log, ..Exchange::default() };
        Self { exchange, leases: Vec::new(), ids: Vec::new(), ends: Vec::new() }
    }

    pub(super) fn is_full(&self) -> bool {
        self.leases.len() >= MAX_ENTRIES || self.ids.len() + self.ends.len() >= MAX_ENTRIES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.exchange.is_empty()
    }

    pub(super) fn add_lease(&mut self, counter: Arc<LimitCounter>, request: LeaseRequest) {
        self.exchange.leases.push(request.clone());
        self.leases.push((counter, request));
    }

    pub(super) fn add_operation(&mut self, operation: DurableOperation) {
        match &operation.kind {
            OperationKind::Id { id, reservation, .. } => {
                self.exchange.ids.push(id.clone());
                self.exchange.reservations.extend(reservation.clone());
                self.ids.push(operation);
            }
            OperationKind::End { id, end, .. } => {
                self.exchange.ends.push((id.clone(), end.clone()));
                self.ends.push(operation);
            }
        }
    }

    /// Answers all who wait for a commit. A caller may have gone; what it wanted has happened all the same. Returns the counters
    /// of what was admitted without a lease.
    #[must_use]
    pub(super) fn answer_operations(&mut self, response: &ExchangeResponse) -> Vec<Arc<LimitCounter>> {
        let mut uncovered = Vec::new();
        // Of two operations with one id in one exchange, the first one has recorded it.
        for (index, operation) in self.ids.drain(..).enumerate() {
            let recorded = response.ids.get(index).copied().unwrap_or(LimitIdOutcome::Conflict);
            let is_first =
                self.exchange.ids.iter().position(|id| id.id == self.exchange.ids[index].id) == Some(index);
            let outcome = match recorded {
                LimitIdOutcome::New if !is_first => LimitIdOutcome::Repeated,
                outcome => outcome,
            };
            uncovered.extend(operation.resolve(outcome == LimitIdOutcome::New));
            if let OperationKind::Id { reply, .. } = operation.kind {
                let _ = reply.send(outcome);
            }
        }
        for (operation, ended) in self.ends.drain(..).zip(&response.ends) {
            if let OperationKind::End { reply, .. } = operation.kind {
                let _ = reply.send(ended.clone());
            }
        }
        uncovered
    }

    /// The outcome cannot become known: what was set aside counts as used.
    pub(super) fn abandon(&mut self) {
        for operation in self.ids.drain(..) {
            operation.resolve(true);
        }
        self.leases.clear();
        self.ends.clear();
    }
}
