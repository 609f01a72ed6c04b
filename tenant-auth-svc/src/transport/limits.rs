//! Limits of one connection.

use std::time::Duration;

/// The limits of one connection. hyper has defaults for some of them; they are set explicitly, so that they
/// are visible and tested.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Concurrent requests. A well-behaved peer queues further ones; the server refuses others with
    /// REFUSED_STREAM.
    pub max_concurrent_streams: u32,
    /// Streams that a peer may open and reset before the server has accepted them; they use memory until
    /// then. A proxy that cancels all calls of a client at once and starts others has a few times
    /// `max_concurrent_streams` of them in one write.
    pub max_pending_resets: usize,
    /// Requests that a peer may cancel within 10 s, if fewer than one in a hundred is answered ("rapid
    /// reset", CVE-2023-44487).
    pub max_cancelled: u64,
    /// The maximum time in which the peer reads nothing although data waits. Then it has stalled, and the
    /// server ends the connection.
    pub unread_timeout: Duration,
    /// Streams that a peer may make the server reset by protocol errors ("made you reset", CVE-2025-8671).
    pub max_caused_resets: usize,
    /// Bytes of a response that may wait to be sent before the next part of it is polled.
    pub max_send_buffer_bytes: usize,
    /// Size of the request headers, in bytes.
    pub max_header_bytes: u32,
    /// Maximum time for the TLS handshake, and then for the HTTP/2 preface.
    pub handshake_timeout: Duration,
    /// Time without a frame after which the server sends a ping.
    pub keep_alive_interval: Duration,
    /// Maximum time for the answer to a ping.
    pub keep_alive_timeout: Duration,
    /// The server ends a connection gracefully at a random age between this and twice as much, so that
    /// callers spread over new replicas.
    pub max_age: Duration,
    /// Maximum time for open requests after that.
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
