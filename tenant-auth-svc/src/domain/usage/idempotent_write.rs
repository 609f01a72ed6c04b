//! A request as it is written down.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    EventRefusal, Hour, PayloadHash, RecordedUsage, UsageError, UsageMetric, UsageRequest, UsageRequestId,
};
use crate::domain::{clock::UnixMillis, id::TenantId};

/// A sum that a request counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountedTotal {
    /// For whom.
    pub tenant_id: TenantId,
    /// Of which hour.
    pub hour: Hour,
    /// Of what.
    pub metric: UsageMetric,
    /// How much: the sum of up to 500 quantities, so far below the largest integer.
    pub quantity: i64,
    /// How many of the request's events it is the sum of.
    pub event_count: usize,
}

/// A request to write down, judged by the clock at its arrival. It takes effect only if its id is new to its
/// caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotentWrite {
    /// Whose it is; see [`UsageRequest::caller`].
    pub caller: Option<Arc<str>>,
    /// Its id.
    pub id: UsageRequestId,
    /// What it says.
    pub payload: PayloadHash,
    /// The events that can never be counted, by their place.
    pub refused: Vec<(usize, EventRefusal)>,
    /// What to count for those of its tenants that there are.
    pub totals: Vec<CountedTotal>,
    /// How many events it has.
    pub event_count: usize,
}

impl IdempotentWrite {
    /// Judges a request that arrives at `now`.
    pub(super) fn new(request: &UsageRequest, now: UnixMillis) -> Self {
        let mut refused = Vec::new();
        let mut sums = BTreeMap::new();
        for (index, event) in request.events.iter().enumerate() {
            let judged = event.as_ref().map_err(|refusal| *refusal);
            match judged.and_then(|event| Ok((event, event.hour(now)?))) {
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

/// What is written down under a request's id: by this claim, or by an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredOutcome {
    /// What it said.
    pub payload: PayloadHash,
    /// Its events that were refused when it was first seen.
    pub refused: Vec<(usize, EventRefusal)>,
    /// The tenants that its events named and that were not there.
    pub unknown_tenants: Vec<TenantId>,
    /// Whether an earlier claim wrote it.
    pub already_recorded: bool,
}

impl StoredOutcome {
    /// The answer to a request: by what was kept, whatever the clock says by now.
    pub(super) fn into_recorded(self, request: &UsageRequest) -> Result<RecordedUsage, UsageError> {
        if self.payload != request.payload {
            return Err(UsageError::PayloadMismatch(request.id.clone()));
        }
        let refusal = |(index, event): (usize, &Result<_, _>)| {
            let kept =
                self.refused.iter().find(|(refused, _)| *refused == index).map(|(_, refusal)| *refusal);
            kept.or_else(|| match event {
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
