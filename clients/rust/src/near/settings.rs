//! Settings of the near-cache.

use std::time::Duration;

use crate::{Error, options};

/// Maximum number of entries, and maximum lifetime of one entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CacheLimits {
    pub(crate) entries: usize,
    pub(crate) watched_for: Duration,
}

/// Settings of the near-cache: how many answers a client caches, and for how long; see
/// [`ClientBuilder::near_cache`](crate::ClientBuilder::near_cache).
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct NearCache {
    limits: CacheLimits,
    is_limited: bool,
    is_watched: bool,
}

impl NearCache {
    /// Returns the defaults: 10,000 keys and sessions, with the invalidation stream, for as long as the
    /// service allows.
    pub fn new() -> Self {
        let limits = CacheLimits { entries: 10_000, watched_for: Duration::MAX };
        Self { limits, is_limited: false, is_watched: true }
    }

    /// Sets the maximum number of cached keys and sessions: 1 to 10 million, about 400 bytes each.
    pub fn entries(mut self, entries: usize) -> Self {
        self.limits.entries = entries;
        self
    }

    /// Sets the maximum lifetime of an answer while the invalidation stream is live; 24 h at most. Without
    /// the stream, and by default, the service sets the lifetime.
    pub fn watched_for(mut self, time: Duration) -> Self {
        self.limits.watched_for = time;
        self.is_limited = true;
        self
    }

    /// Disables the invalidation stream: answers are used for as long as the service allows.
    pub fn unwatched(mut self) -> Self {
        self.is_watched = false;
        self
    }

    /// # Errors
    /// [`Error::Setup`] if the number of entries or the lifetime is outside its range.
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
