//! What a client may keep.

use std::time::Duration;

/// How much is kept and how long one of them may be used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) entries: usize,
    pub(crate) watched_for: Duration,
}

/// How much a client keeps in its own memory, and for how long; see
/// [`ClientBuilder::near_cache`](crate::ClientBuilder::near_cache).
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct NearCache {
    limits: Limits,
    is_watched: bool,
}

impl NearCache {
    /// 10,000 keys and sessions, watched, for 60 s at most.
    pub fn new() -> Self {
        let limits = Limits { entries: 10_000, watched_for: Duration::from_secs(60) };
        Self { limits, is_watched: true }
    }

    /// How many keys and sessions are kept; some 400 bytes each.
    pub fn entries(mut self, entries: usize) -> Self {
        self.limits.entries = entries.max(1);
        self
    }

    /// How long an answer may be used while the service's stream of invalidations is heard. Without it, and for strangers,
    /// an answer is used for as long as the service allows: some seconds.
    pub fn watched_for(mut self, time: Duration) -> Self {
        self.limits.watched_for = time;
        self
    }

    /// Does not listen to invalidations: answers are used for as long as the service allows.
    pub fn unwatched(mut self) -> Self {
        self.is_watched = false;
        self
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.is_watched
    }
}

impl Default for NearCache {
    fn default() -> Self {
        Self::new()
    }
}
