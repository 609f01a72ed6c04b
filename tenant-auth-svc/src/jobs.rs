//! Background jobs of the running service: change feed polling, cache maintenance, last-used flushes, sweeps,
//! comparisons and copies. Each job receives its dependencies.

pub(crate) mod audit_copy;
pub(crate) mod audit_file;
pub(crate) mod feed_poller;
pub(crate) mod heartbeat;
pub(crate) mod limits;
pub(crate) mod maintenance;
mod preload;
pub(crate) mod readiness;
pub(crate) mod usage;
pub(crate) mod usage_reconciler;
