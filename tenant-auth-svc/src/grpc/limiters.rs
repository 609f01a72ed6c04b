//! The pools that places are taken from, one for each thing that somebody could have too much of.

use super::permits::{Limiter, LimiterBounds};

/// Open at once by all that nobody knows, and by one address of theirs: enough for the probes of a node, and for a person
/// with grpcurl.
const MAX_UNKNOWN_CALLER_REQUESTS: (usize, usize) = (256, 32);
/// The same for streams, which stay open.
const MAX_UNKNOWN_CALLER_STREAMS: (usize, usize) = (64, 16);
/// Requests at once of operators, and of one of them.
const MAX_OPERATOR_REQUESTS: (usize, usize) = (1_024, 256);
/// Bytes of requests that are not answered, and of answers that are not read, beyond [`MAX_UNCOUNTED_BYTES`] each: in the process, of one
/// caller, and of all that nobody knows.
const MAX_HELD_BYTES: (usize, usize, usize) = (64 * 1_024 * 1_024, 16 * 1_024 * 1_024, 1_024 * 1_024);

/// What a request or an answer may be long without being counted, in bytes: there are no more of these than places.
pub const MAX_UNCOUNTED_BYTES: usize = 4 * 1_024;

/// The pools. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct Limiters {
    /// Requests of validation, sessions, usage and watching, and messages of validation streams.
    pub requests: Limiter,
    /// Streams, whatever they are about: they may be open for as long as their connection.
    pub streams: Limiter,
    /// Requests of health, reflection, administration and server info. Not of `requests`, so that probes and operators get
    /// through when they are needed most.
    pub operators: Limiter,
    /// Bytes of requests that are not answered.
    pub request_bytes: Limiter,
    /// Bytes of answers that are not read yet.
    pub response_bytes: Limiter,
}

impl Limiters {
    /// With so many requests and streams for all known callers together, and such a share of each pool for one of them, in
    /// percent.
    #[must_use]
    pub fn new(requests: usize, streams: usize, share: usize) -> Self {
        let bounds = |process: usize, (strangers, stranger): (usize, usize)| {
            let caller = (process * share).div_ceil(100).max(1);
            LimiterBounds {
                process,
                per_caller: caller,
                unknown_callers: strangers,
                per_unknown_address: stranger,
            }
        };
        let (process, caller, strangers) = MAX_HELD_BYTES;
        let bytes = LimiterBounds {
            process,
            per_caller: caller,
            unknown_callers: strangers,
            per_unknown_address: strangers / 4,
        };
        let operators = LimiterBounds {
            process: MAX_OPERATOR_REQUESTS.0,
            per_caller: MAX_OPERATOR_REQUESTS.1,
            ..bounds(MAX_OPERATOR_REQUESTS.0, MAX_UNKNOWN_CALLER_REQUESTS)
        };
        Self {
            requests: Limiter::new("requests", bounds(requests, MAX_UNKNOWN_CALLER_REQUESTS)),
            streams: Limiter::new("streams", bounds(streams, MAX_UNKNOWN_CALLER_STREAMS)),
            operators: Limiter::new("requests of operators", operators),
            request_bytes: Limiter::new("bytes of requests that are not answered", bytes),
            response_bytes: Limiter::new("bytes of answers that are not read", bytes),
        }
    }

    /// Each with its name in metrics.
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
