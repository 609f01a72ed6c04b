//! A usage request in the form in which it is stored.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    EventRefusal, Hour, PayloadHash, RecordedUsage, UsageError, UsageMetric, UsageRequest, UsageRequestId,
};
use crate::domain::{clock::UnixMillis, id::TenantId};

/// A sum of a request's events for one total.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountedTotal {
    /// The tenant.
    pub tenant_id: TenantId,
    /// The hour.
    pub hour: Hour,
    /// The metric.
    pub metric: UsageMetric,
    /// The sum of up to 500 quantities, far below the largest integer.
    pub quantity: i64,
    /// The number of events in the sum.
    pub event_count: usize,
}

/// A request to store, evaluated by the clock at its arrival. It takes effect only if its id is new for its
/// caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotentWrite {
    /// The caller; see [`UsageRequest::caller`].
    pub caller: Option<Arc<str>>,
    /// The id of the request.
    pub id: UsageRequestId,
    /// The hash of its events.
    pub payload: PayloadHash,
    /// The events that can never be counted, by index.
    pub refused: Vec<(usize, EventRefusal)>,
    /// The sums to add, for those of its tenants that exist.
    pub totals: Vec<CountedTotal>,
    /// The number of its events.
    pub event_count: usize,
}

impl IdempotentWrite {
    /// Evaluates a request that arrives at `now`.
    pub(super) fn new(request: &UsageRequest, now: UnixMillis) -> Self {
        let mut refused = Vec::new();
        let mut sums = BTreeMap::new();
        for (index, event) in request.events.iter().enumerate() {
            let evaluated = event.as_ref().map_err(|refusal| *refusal);
            match evaluated.and_then(|event| Ok((event, event.hour(now)?))) {
                Ok((event, hour)) => {
                    let sum: &mut (i64, usize) =
                        sums.entry((&event.tenant_id, hour, &event.metric)).or_default();
                    sum.0 += event.quantity.get();
                    sum.1 += 1;
                }
                Err(refusal) => refused.push((index, refusal)),
            }
        }
        let counted = sums.into_iter().map(|((tenant_id, hour, metric), (quantity, events))| CountedTotal {
            tenant_id: tenant_id.clone(),
            hour,
            metric: metric.clone(),
            quantity,
            event_count: events,
        });
        Self {
            caller: request.caller.clone(),
            id: request.id.clone(),
            payload: request.payload,
            refused,
            totals: counted.collect(),
            event_count: request.events.len(),
        }
    }
}

/// The outcome stored under a request's id, by this write or an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredOutcome {
    /// The hash of the stored request's events.
    pub payload: PayloadHash,
    /// Its events that were rejected when it first arrived.
    pub refused: Vec<(usize, EventRefusal)>,
    /// Tenants named by its events that did not exist.
    pub unknown_tenants: Vec<TenantId>,
    /// Whether an earlier write stored it.
    pub already_recorded: bool,
}

impl StoredOutcome {
    /// Returns the result for a request. It depends only on the stored outcome, not on the current time.
    pub(super) fn into_recorded(self, request: &UsageRequest) -> Result<RecordedUsage, UsageError> {
        if self.payload != request.payload {
            return Err(UsageError::PayloadMismatch(request.id.clone()));
        }
        let refusal = |(index, event): (usize, &Result<_, _>)| {
            let stored =
                self.refused.iter().find(|(refused, _)| *refused == index).map(|(_, refusal)| *refusal);
            stored
                .or_else(|| match event {
                    Ok(super::UsageEvent { tenant_id, .. }) => {
                        self.unknown_tenants.contains(tenant_id).then_some(EventRefusal::UnknownTenant)
                    }
                    Err(refusal) => Some(*refusal),
                })
                .map(|refusal| (index, refusal))
        };
        let rejected: Vec<_> = request.events.iter().enumerate().filter_map(refusal).collect();
        Ok(RecordedUsage {
            accepted: request.events.len() - rejected.len(),
            rejected,
            already_recorded: self.already_recorded,
        })
    }
}
