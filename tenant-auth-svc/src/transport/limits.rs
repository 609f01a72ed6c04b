//! What one connection may ask of the service.

use std::time::Duration;

/// The bounds of one connection. hyper has bounds of its own for some of them; they are set here all the same, so that
/// they are seen, and tested.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests at once; more are refused by the peer's own HTTP/2 layer, or with REFUSED_STREAM.
    pub streams: u32,
    /// Streams that a peer may open and reset before they were even looked at ("rapid reset", CVE-2023-44487).
    pub pending_resets: usize,
    /// Streams that a peer may make us reset by breaking the protocol ("made you reset", CVE-2025-8671).
    pub caused_resets: usize,
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
            pending_resets: 20,
            caused_resets: 1_024,
            head: 16 * 1_024,
            greeting: Duration::from_secs(10),
            ping_after: Duration::from_secs(20),
            ping_timeout: Duration::from_secs(10),
            age: Duration::from_secs(300),
            age_grace: Duration::from_secs(60),
        }
    }
}
