//! Counters of the server's work.

use tokio::sync::watch;

/// A snapshot of the counters. Every counter except `open_*` only increases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// TCP connections accepted.
    pub connections: u64,
    /// TCP connections that are still open.
    pub open_connections: u64,
    /// Pipeline requests whose body has arrived, with any outcome.
    pub requests: u64,
    /// Pipeline requests in progress.
    pub open_requests: u64,
    /// Maximum number of concurrent pipeline requests.
    pub max_open_requests: u64,
    /// Statements executed, including those of batches.
    pub statements: u64,
    /// Streams left open by a pipeline without a close.
    pub open_streams: u64,
    /// Transactions that wait for the write lock, including those of disconnected clients.
    pub waiting_writers: u64,
    /// Maximum number of transactions that waited at once.
    pub max_waiting_writers: u64,
    /// Requests rejected because of their token.
    pub unauthorized: u64,
}

/// The shared counters that the server updates.
#[derive(Clone, Debug)]
pub(crate) struct SharedCounters(watch::Sender<Counters>);

impl SharedCounters {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Counters::default()))
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Counters)) {
        self.0.send_modify(change);
    }

    pub(crate) fn snapshot(&self) -> Counters {
        *self.0.borrow()
    }

    /// Waits, without polling, until the counters satisfy the condition.
    pub(crate) async fn wait_for(&self, wanted: impl FnMut(&Counters) -> bool) -> Counters {
        let mut receiver = self.0.subscribe();
        // The sender lives as long as `self`.
        receiver.wait_for(wanted).await.map_or_else(|_| self.snapshot(), |counters| *counters)
    }
}
