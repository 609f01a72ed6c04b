//! What tenants consumed: counted once, acknowledged only when committed.

mod claim;
mod error;
mod event;
mod meter;
mod payload;
mod query;
mod reconcile;
mod request;
mod store;
mod sweep;

pub use self::{
    claim::{Claim, Counted, Kept},
    error::UsageError,
    event::{Hour, InvalidMetric, Metric, Quantity, Refusal, UsageEvent},
    meter::{Meter, Recorder},
    payload::{Payload, PayloadHasher},
    query::{Bucket, InvalidRange, MAX_SUMS, UsageCursor, UsageQuery, UsageSum},
    reconcile::{CompareFrom, Compared, Difference, Reconciliation, Repaired, repairs},
    request::{InvalidRequestId, MAX_EVENTS, Recorded, RequestId, UsageRequest},
    store::{SweptEvents, UsageStore},
    sweep::{Retention, sweep},
};
