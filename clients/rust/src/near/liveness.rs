//! Whether the invalidation stream can be relied on.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

use crate::clock::Moment;

/// A stream that is silent for longer is dead: heartbeats come each second.
pub(crate) const LIVENESS_TIMEOUT: Duration = Duration::from_secs(3);
const NEVER: u64 = u64::MAX;

/// Since when the stream has told everything, and until when. Read on every hit, so it takes no lock.
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

    /// Whether the stream has told everything that happened since a moment.
    pub(crate) fn covers(&self, since: Moment, now: Moment) -> bool {
        // In this order, which is the reverse of the writer's: who sees a new sign of life sees a new beginning, too.
        let last_heard = self.last_heartbeat.load(Ordering::Acquire);
        let unbroken_since = self.unbroken_since.load(Ordering::Acquire);
        unbroken_since < since.0 && now.since(Moment(last_heard)) <= LIVENESS_TIMEOUT
    }

    /// Notes a sign of life. Says whether the stream begins anew with it.
    pub(crate) fn record_heartbeat(&self, now: Moment, revision: i64) -> bool {
        let begins = !self.is_unbroken(now);
        if begins {
            self.unbroken_since.store(now.0, Ordering::Release);
        }
        self.revision.store(revision, Ordering::Release);
        self.last_heartbeat.store(now.0, Ordering::Release);
        begins
    }

    /// What happened from now on until the next sign of life may never be told.
    pub(crate) fn mark_broken(&self) {
        self.unbroken_since.store(NEVER, Ordering::Release);
    }

    /// Whether the stream, which may have to be resumed, has left nothing out so far.
    pub(crate) fn is_unbroken(&self, now: Moment) -> bool {
        let silence = now.since(Moment(self.last_heartbeat.load(Ordering::Acquire)));
        self.unbroken_since.load(Ordering::Acquire) != NEVER && silence <= LIVENESS_TIMEOUT
    }

    /// The last revision that was told; 0 before the first.
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
        // A pause of three seconds is none; a longer one is a new beginning.
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
