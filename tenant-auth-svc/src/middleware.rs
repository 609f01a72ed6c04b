//! What every RPC passes through, unless it is a plain hit and takes the shortcut; outermost first: request id and caller, the
//! span, the log line, the metrics, panics, the bound of what is in work, the deadline, what the caller may do, for streams
//! again whenever the callers change, and whether what it sends is a gRPC call at all.
//!
//! One layer a file; the order is written down once, in [`stack`](crate::server). They are ours rather than tonic's own
//! limits, because those sit outside every layer and what they refuse would be seen by nobody.

pub mod access_log;
pub mod authorize;
pub mod catch_panic;
pub mod deadline;
pub mod identify;
pub mod malformed;
pub mod message_memory;
pub mod metrics;
pub mod observability;
pub mod recheck;
pub mod rpc_observer;
pub mod shed;
pub mod trace;
