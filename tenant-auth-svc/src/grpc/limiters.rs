//! The limiters of requests, streams and bytes.

use super::permits::{Limiter, LimiterBounds};

/// The maximum number of open requests of all unknown callers together, and of one of their addresses: enough
/// for the probes of a node and a person with grpcurl.
const MAX_UNKNOWN_CALLER_REQUESTS: (usize, usize) = (256, 32);
/// The same for streams, which stay open.
const MAX_UNKNOWN_CALLER_STREAMS: (usize, usize) = (64, 16);
/// The maximum number of concurrent requests of all operators, and of one operator.
const MAX_OPERATOR_REQUESTS: (usize, usize) = (1_024, 256);
/// The maximum bytes of unanswered requests, and of unread responses, beyond [`MAX_UNCOUNTED_BYTES`] each: in
/// the process, of one caller, and of all unknown callers.
const MAX_HELD_BYTES: (usize, usize, usize) = (64 * 1_024 * 1_024, 16 * 1_024 * 1_024, 1_024 * 1_024);

/// Requests and responses up to this size in bytes are not counted: the other limits already bound their
/// number.
pub const MAX_UNCOUNTED_BYTES: usize = 4 * 1_024;

/// The limiters. Cheap to clone; clones share their state.
#[derive(Clone, Debug)]
pub struct Limiters {
    /// Requests of validation, sessions, usage and watch, and messages of validation streams.
    pub requests: Limiter,
    /// Streams of all services: each may stay open as long as its connection.
    pub streams: Limiter,
    /// Requests of health, reflection, administration and server info. They are separate from `requests`, so
    /// that probes and operators are served under overload.
    pub operators: Limiter,
    /// Bytes of unanswered requests.
    pub request_bytes: Limiter,
    /// Bytes of unread responses.
    pub response_bytes: Limiter,
}

impl Limiters {
    /// Creates limiters for `requests` requests and `streams` streams of all known callers together. One
    /// caller may use `share` percent of each.
    #[must_use]
    pub fn new(requests: usize, streams: usize, share: usize) -> Self {
        let bounds = |process: usize, (unknown_callers, per_unknown_address): (usize, usize)| {
            let per_caller = (process * share).div_ceil(100).max(1);
            LimiterBounds { process, per_caller, unknown_callers, per_unknown_address }
        };
        let (process, per_caller, unknown_callers) = MAX_HELD_BYTES;
        let bytes =
            LimiterBounds { process, per_caller, unknown_callers, per_unknown_address: unknown_callers / 4 };
        let operators = LimiterBounds {
            process: MAX_OPERATOR_REQUESTS.0,
            per_caller: MAX_OPERATOR_REQUESTS.1,
            ..bounds(MAX_OPERATOR_REQUESTS.0, MAX_UNKNOWN_CALLER_REQUESTS)
        };
        Self {
            requests: Limiter::new("requests", bounds(requests, MAX_UNKNOWN_CALLER_REQUESTS)),
            streams: Limiter::new("streams", bounds(streams, MAX_UNKNOWN_CALLER_STREAMS)),
            operators: Limiter::new("operator requests", operators),
            request_bytes: Limiter::new("bytes of unanswered requests", bytes),
            response_bytes: Limiter::new("bytes of unread responses", bytes),
        }
    }

    /// Returns each limiter with its name in metrics.
    pub fn named(&self) -> [(&'static str, &Limiter); 5] {
        [
            ("requests", &self.requests),
            ("streams", &self.streams),
            ("operators", &self.operators),
            ("request_bytes", &self.request_bytes),
            ("answer_bytes", &self.response_bytes),
        ]
    }
}
