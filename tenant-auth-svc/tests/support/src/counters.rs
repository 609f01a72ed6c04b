//! What the server has done so far.

use tokio::sync::watch;

/// A snapshot. Everything but `open_*` only rises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// TCP connections accepted.
    pub connections: u64,
    /// Those still open.
    pub open_connections: u64,
    /// Pipeline requests whose body has arrived, whatever became of them.
    pub requests: u64,
    /// Pipeline requests being worked on now.
    pub open_requests: u64,
    /// The most that were worked on at once.
    pub max_open_requests: u64,
    /// Statements run, those of batches included.
    pub statements: u64,
    /// Streams left open by a pipeline without a close.
    pub open_streams: u64,
    /// Transactions that wait for the lock for writing, those of clients that have gone included.
    pub waiting_writers: u64,
    /// The most that waited at once.
    pub max_waiting_writers: u64,
    /// Requests refused for their token.
    pub unauthorized: u64,
}

/// The counters in the making.
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

    /// Waits, without polling, until the counters look as wanted.
    pub(crate) async fn wait_for(&self, wanted: impl FnMut(&Counters) -> bool) -> Counters {
        let mut receiver = self.0.subscribe();
        // The sender lives as long as `self`.
        receiver.wait_for(wanted).await.map_or_else(|_| self.snapshot(), |counters| *counters)
    }
}
