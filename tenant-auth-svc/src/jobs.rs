//! What runs by itself while the service runs: reading the change log, upkeep of memory, writing down which keys are in use, sweeps,
//! comparisons and copies. What each needs is handed to it.

pub(crate) mod audit_copy;
pub(crate) mod audit_file;
pub(crate) mod feed_poller;
pub(crate) mod heartbeat;
pub(crate) mod maintenance;
pub(crate) mod usage;
pub(crate) mod usage_reconciler;
