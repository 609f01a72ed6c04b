//! Liveness of the invalidation stream.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

use crate::clock::Moment;

/// Maximum time without an event. Heartbeats arrive every second, so a stream without one for longer counts
/// as broken.
pub(crate) const LIVENESS_TIMEOUT: Duration = Duration::from_secs(3);
const NEVER: u64 = u64::MAX;

/// The interval in which the stream has announced every change. Read on every cache hit, so it takes no lock.
#[derive(Debug)]
pub(crate) struct Liveness {
    unbroken_since: AtomicU64,
    last_heartbeat: AtomicU64,
    revision: AtomicI64,
}

impl Liveness {
    pub(crate) fn new() -> Self {
        Self {
            unbroken_since: AtomicU64::new(NEVER),
            last_heartbeat: AtomicU64::new(0),
            revision: AtomicI64::new(0),
        }
    }

    /// Returns whether the stream has announced every change since a moment.
    pub(crate) fn covers(&self, since: Moment, now: Moment) -> bool {
        // In this order, the reverse of the writer's: a reader that sees a new heartbeat also sees the new
        // start of the stream.
        let last_heartbeat = self.last_heartbeat.load(Ordering::Acquire);
        let unbroken_since = self.unbroken_since.load(Ordering::Acquire);
        unbroken_since < since.0 && now.since(Moment(last_heartbeat)) <= LIVENESS_TIMEOUT
    }

    /// Records a heartbeat. Returns whether the stream starts anew with it.
    pub(crate) fn record_heartbeat(&self, now: Moment, revision: i64) -> bool {
        let is_restart = !self.is_unbroken(now);
        if is_restart {
            self.unbroken_since.store(now.0, Ordering::Release);
        }
        self.revision.store(revision, Ordering::Release);
        self.last_heartbeat.store(now.0, Ordering::Release);
        is_restart
    }

    /// Marks the stream as broken: changes from now until the next heartbeat may never be announced.
    pub(crate) fn mark_broken(&self) {
        self.unbroken_since.store(NEVER, Ordering::Release);
    }

    /// Returns whether the stream, which may have been resumed, has missed no change so far.
    pub(crate) fn is_unbroken(&self, now: Moment) -> bool {
        let idle = now.since(Moment(self.last_heartbeat.load(Ordering::Acquire)));
        self.unbroken_since.load(Ordering::Acquire) != NEVER && idle <= LIVENESS_TIMEOUT
    }

    /// Returns the last revision that the stream has announced; 0 before the first event.
    pub(crate) fn revision(&self) -> i64 {
        self.revision.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn liveness_covers_only_the_unbroken_stream() {
        let at = |seconds: u32| Moment::from(SECOND * seconds);
        let liveness = Liveness::new();
        assert!(!liveness.covers(at(0), at(0)));
        assert!(liveness.record_heartbeat(at(5), 7));
        assert!(!liveness.covers(at(4), at(5)));
        assert!(!liveness.covers(at(5), at(8)));
        assert!(liveness.covers(at(6), at(8)));
        assert!(!liveness.covers(at(6), at(8).after(Duration::from_nanos(1))));
        // A pause of 3 s does not break the stream; a longer one restarts it.
        assert!(!liveness.record_heartbeat(at(8), 8));
        assert!(liveness.covers(at(6), at(11)));
        assert!(liveness.record_heartbeat(at(12), 9));
        assert!(!liveness.covers(at(6), at(12)));
        assert!(liveness.covers(at(13), at(14)));
        liveness.mark_broken();
        assert!(!liveness.covers(at(13), at(14)));
        assert!(liveness.record_heartbeat(at(14), 9));
    }
}
