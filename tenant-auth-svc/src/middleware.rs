//! The middleware of every RPC, except cache hits on the fast path. From the outside in: request id and
//! caller, trace span, metrics and access log, panics, permits, deadline, authorization, the recheck of
//! streams when the callers change, message memory, and the check that the request is a gRPC call.
//!
//! Each file has one layer; [`middleware_stack`](crate::server) has the order. The layers replace tonic's own
//! limits: those sit outside of all layers, so that their refusals would be neither logged nor counted.

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
