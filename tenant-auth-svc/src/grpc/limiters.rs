//! The pools that places are taken from, one for each thing that somebody could have too much of.

use super::permits::{Bounds, Places};

/// Open at once by all that nobody knows, and by one address of theirs: enough for the probes of a node, and for a person
/// with grpcurl.
const STRANGERS: (usize, usize) = (256, 32);
/// The same for streams, which stay open.
const STRANGERS_STREAMS: (usize, usize) = (64, 16);
/// Requests at once of operators, and of one of them.
const OPERATORS: (usize, usize) = (1_024, 256);
/// Bytes of requests that are not answered, and of answers that are not read, beyond [`SMALL`] each: in the process, of one
/// caller, and of all that nobody knows.
const BYTES: (usize, usize, usize) = (64 * 1_024 * 1_024, 16 * 1_024 * 1_024, 1_024 * 1_024);

/// What a request or an answer may be long without being counted, in bytes: there are no more of these than places.
pub const SMALL: usize = 4 * 1_024;

/// The pools. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct Pools {
    /// Requests of validation, sessions, usage and watching, and messages of validation streams.
    pub requests: Places,
    /// Streams, whatever they are about: they may be open for as long as their connection.
    pub streams: Places,
    /// Requests of health, reflection, administration and server info. Not of `requests`, so that probes and operators get
    /// through when they are needed most.
    pub operators: Places,
    /// Bytes of requests that are not answered.
    pub asked: Places,
    /// Bytes of answers that are not read yet.
    pub answered: Places,
}

impl Pools {
    /// With so many requests and streams for all known callers together, and such a share of each pool for one of them, in
    /// percent.
    #[must_use]
    pub fn new(requests: usize, streams: usize, share: usize) -> Self {
        let bounds = |process: usize, (strangers, stranger): (usize, usize)| {
            let caller = (process * share).div_ceil(100).max(1);
            Bounds { process, caller, strangers, stranger }
        };
        let (process, caller, strangers) = BYTES;
        let bytes = Bounds { process, caller, strangers, stranger: strangers / 4 };
        let operators =
            Bounds { process: OPERATORS.0, caller: OPERATORS.1, ..bounds(OPERATORS.0, STRANGERS) };
        Self {
            requests: Places::new("requests", bounds(requests, STRANGERS)),
            streams: Places::new("streams", bounds(streams, STRANGERS_STREAMS)),
            operators: Places::new("requests of operators", operators),
            asked: Places::new("bytes of requests that are not answered", bytes),
            answered: Places::new("bytes of answers that are not read", bytes),
        }
    }

    /// Each with its name in metrics.
    pub fn named(&self) -> [(&'static str, &Places); 5] {
        [
            ("requests", &self.requests),
            ("streams", &self.streams),
            ("operators", &self.operators),
            ("request_bytes", &self.asked),
            ("answer_bytes", &self.answered),
        ]
    }
}
