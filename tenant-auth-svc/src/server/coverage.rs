//! Until when memory can do without the database.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::Memory;
use crate::{
    cache::Coverage,
    domain::{clock::Moment, grace::Grace},
    ops::facts,
};

/// How often the ages of all keys in memory are looked at, at most, however often somebody asks.
const EVERY: Duration = Duration::from_secs(5);
/// A key counts as in use if it was loaded this long before the database went away, or since: one that is asked for is loaded
/// every minute. At most half of the grace, so that the beginning of an outage is never near the end.
const IN_USE: Duration = Duration::from_secs(3_600);

/// Looks at the ages of what is in memory while the database is away. Clones share what was seen last.
#[derive(Clone)]
pub(super) struct CoverageProbe {
    memory: Memory,
    grace: Arc<Grace>,
    seen: Arc<Mutex<Option<Seen>>>,
}

#[derive(Clone, Copy)]
struct Seen {
    at: Duration,
    grace: Duration,
    coverage: Coverage,
}

impl fmt::Debug for CoverageProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoverageProbe").finish_non_exhaustive()
    }
}

impl CoverageProbe {
    pub(super) fn new(memory: Memory, grace: Arc<Grace>) -> Self {
        Self { memory, grace, seen: Arc::default() }
    }

    /// The grace, and what it covers while memory answers in place of the database, since `away_since`.
    pub(super) fn facts(&self, now: Moment, away_since: Option<Moment>) -> facts::Grace {
        let set = self.grace.set_at(now.monotonic);
        let in_force = self.grace.at(now.monotonic);
        facts::Grace {
            in_force,
            configured: self.grace.configured(),
            set_until: set.map(|(_, ends)| now.wall.plus(ends.saturating_sub(now.monotonic))),
            coverage: away_since.map(|since| self.coverage(now.monotonic, in_force, since.monotonic)),
        }
    }

    fn coverage(&self, now: Duration, grace: Duration, away_since: Duration) -> facts::Coverage {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = |seen: &Seen| seen.grace == grace && now.saturating_sub(seen.at) < EVERY;
        let current = match *seen {
            Some(current) if recent(&current) => current,
            Some(_) | None => {
                let in_use = away_since.saturating_sub(IN_USE.min(grace / 2));
                Seen { at: now, grace, coverage: self.memory.coverage(in_use, grace, now) }
            }
        };
        *seen = Some(current);
        let Coverage { oldest, median, beyond } = current.coverage;
        let left = |loaded_at: Duration| facts::Left::until(loaded_at + grace, now);
        facts::Coverage { oldest: oldest.map(left), median: median.map(left), beyond }
    }
}
