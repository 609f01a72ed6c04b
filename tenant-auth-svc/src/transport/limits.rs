//! What one connection may ask of the service.

use std::time::Duration;

/// The bounds of one connection. hyper has bounds of its own for some of them; they are set here all the same, so that
/// they are seen, and tested.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests at once; more are refused by the peer's own HTTP/2 layer, or with REFUSED_STREAM.
    pub streams: u32,
    /// Streams that a peer may open and reset before they were even looked at. They cost memory for that long. A proxy that gives
    /// up all calls of a client at once, and begins others, has a few times `streams` of them in one write.
    pub pending_resets: usize,
    /// Requests that a peer may give up within 10 s, if it lets fewer than one in a hundred be answered ("rapid reset",
    /// CVE-2023-44487).
    pub cancelled: u64,
    /// How long the peer may read nothing of what waits for it: then it has stalled, and what waits is only in the way.
    pub unread: Duration,
    /// Streams that a peer may make us reset by breaking the protocol ("made you reset", CVE-2025-8671).
    pub caused_resets: usize,
    /// How much of an answer may wait to be sent before the next piece of it is asked for, in bytes.
    pub send_buffer: usize,
    /// Size of a request's head, in bytes.
    pub head: u32,
    /// How long the peer may take for the TLS handshake, and then for HTTP/2's first words.
    pub greeting: Duration,
    /// After this long without a frame the peer is asked whether it is there.
    pub ping_after: Duration,
    /// How long it may take to say so.
    pub ping_timeout: Duration,
    /// A connection is asked to end between this age and twice as much, so that callers spread over new replicas.
    pub age: Duration,
    /// How long requests may go on after that.
    pub age_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams: 200,
            pending_resets: 1_000,
            cancelled: 10_000,
            unread: Duration::from_secs(10),
            caused_resets: 1_024,
            send_buffer: 64 * 1_024,
            head: 16 * 1_024,
            greeting: Duration::from_secs(10),
            ping_after: Duration::from_secs(20),
            ping_timeout: Duration::from_secs(10),
            age: Duration::from_secs(300),
            age_grace: Duration::from_secs(60),
        }
    }
}
