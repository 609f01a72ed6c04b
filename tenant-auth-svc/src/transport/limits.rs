//! What one connection may ask of the service.

use std::time::Duration;

/// The bounds of one connection. hyper has bounds of its own for some of them; they are set here all the same, so that
/// they are seen, and tested.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Requests at once; more are refused by the peer's own HTTP/2 layer, or with REFUSED_STREAM.
    pub max_concurrent_streams: u32,
    /// Streams that a peer may open and reset before they were even looked at. They cost memory for that long. A proxy that gives
    /// up all calls of a client at once, and begins others, has a few times `streams` of them in one write.
    pub max_pending_resets: usize,
    /// Requests that a peer may give up within 10 s, if it lets fewer than one in a hundred be answered ("rapid reset",
    /// CVE-2023-44487).
    pub max_cancelled: u64,
    /// How long the peer may read nothing of what waits for it: then it has stalled, and what waits is only in the way.
    pub unread_timeout: Duration,
    /// Streams that a peer may make us reset by breaking the protocol ("made you reset", CVE-2025-8671).
    pub max_caused_resets: usize,
    /// How much of an answer may wait to be sent before the next piece of it is asked for, in bytes.
    pub max_send_buffer_bytes: usize,
    /// Size of a request's head, in bytes.
    pub max_header_bytes: u32,
    /// How long the peer may take for the TLS handshake, and then for HTTP/2's first words.
    pub handshake_timeout: Duration,
    /// After this long without a frame the peer is asked whether it is there.
    pub keep_alive_interval: Duration,
    /// How long it may take to say so.
    pub keep_alive_timeout: Duration,
    /// A connection is asked to end between this age and twice as much, so that callers spread over new replicas.
    pub max_age: Duration,
    /// How long requests may go on after that.
    pub max_age_grace: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            max_concurrent_streams: 200,
            max_pending_resets: 1_000,
            max_cancelled: 10_000,
            unread_timeout: Duration::from_secs(10),
            max_caused_resets: 1_024,
            max_send_buffer_bytes: 64 * 1_024,
            max_header_bytes: 16 * 1_024,
            handshake_timeout: Duration::from_secs(10),
            keep_alive_interval: Duration::from_secs(20),
            keep_alive_timeout: Duration::from_secs(10),
            max_age: Duration::from_secs(300),
            max_age_grace: Duration::from_secs(60),
        }
    }
}
