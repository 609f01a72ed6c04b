//! What a client may keep.

use std::time::Duration;

use crate::{Error, options};

/// How much is kept and how long one of them may be used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CacheLimits {
    pub(crate) entries: usize,
    pub(crate) watched_for: Duration,
}

/// How much a client keeps in its own memory, and for how long; see
/// [`ClientBuilder::near_cache`](crate::ClientBuilder::near_cache).
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct NearCache {
    limits: CacheLimits,
    is_limited: bool,
    is_watched: bool,
}

impl NearCache {
    /// 10,000 keys and sessions, watched, for as long as the service allows.
    pub fn new() -> Self {
        let limits = CacheLimits { entries: 10_000, watched_for: Duration::MAX };
        Self { limits, is_limited: false, is_watched: true }
    }

    /// How many keys and sessions are kept, 1 to 10 million; some 400 bytes each.
    pub fn entries(mut self, entries: usize) -> Self {
        self.limits.entries = entries;
        self
    }

    /// How long an answer may be used at most while the service's stream of invalidations is heard, 24 h at most; without
    /// it, and unless set, the service sets the time.
    pub fn watched_for(mut self, time: Duration) -> Self {
        self.limits.watched_for = time;
        self.is_limited = true;
        self
    }

    /// Does not listen to invalidations: answers are used for as long as the service allows.
    pub fn unwatched(mut self) -> Self {
        self.is_watched = false;
        self
    }

    /// # Errors
    /// [`Error::Setup`] when there is no room for anything, or more than a machine has.
    pub(crate) fn limits(&self) -> Result<CacheLimits, Error> {
        options::check_count("NearCache::entries", self.limits.entries)?;
        if self.is_limited {
            options::check_duration("NearCache::watched_for", self.limits.watched_for)?;
        }
        Ok(self.limits)
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
