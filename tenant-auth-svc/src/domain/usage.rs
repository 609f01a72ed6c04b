//! Usage of tenants: each event is counted once, and acknowledged only when it is committed.

mod event;
mod idempotent_write;
mod payload;
mod query;
mod reconcile;
mod recorder;
mod request;
mod store;
mod sweep;

pub use self::{
    event::{EventRefusal, Hour, InvalidMetric, Quantity, UsageEvent, UsageMetric},
    idempotent_write::{CountedTotal, IdempotentWrite, StoredOutcome},
    payload::{PayloadHash, PayloadHasher},
    query::{InvalidTimeRange, SUMS_PAGE_SIZES, TimeBucket, UsageCursor, UsageQuery, UsageSum},
    reconcile::{
        ComparisonCursor, ComparisonPage, Reconciliation, RepairedTotal, TotalDifference, repair_batches,
    },
    recorder::{UsageError, UsageRecorder, UsageWriter},
    request::{InvalidUsageRequestId, MAX_EVENTS_PER_REQUEST, RecordedUsage, UsageRequest, UsageRequestId},
    store::{SweptEvents, UsageStore},
    sweep::{UsageRetention, sweep_usage},
};
