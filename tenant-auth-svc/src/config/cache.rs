//! What to remember, and how long.
//!
//! | variable | unit | default |
//! |---|---|---|
//! | `TENANT_AUTH_CACHE_KEYS` | places for keys in memory: half as many again as there are keys in use; a record of more than 1 KiB takes several | `100000` |
//! | `TENANT_AUTH_CACHE_NEGATIVE_ENTRIES` | unknown keys in memory | `100000` |
//! | `TENANT_AUTH_CACHE_FRESH` | duration, ±20 % per key | `5s` |
//! | `TENANT_AUTH_CACHE_STALE_WHILE_REVALIDATE` | duration: served while a reload runs, if the change feed is heard | `60s` |
//! | `TENANT_AUTH_CACHE_GRACE` | duration: served while the database does not answer; `0s` for never | `4h` |
//! | `TENANT_AUTH_CACHE_NEGATIVE_TTL` | duration | `5s` |
//! | `TENANT_AUTH_CACHE_REUSE_WATCHED` | duration: how long callers reuse an answer while they follow the changes | `60s` |
//! | `TENANT_AUTH_UNKNOWN_LOOKUPS_PER_CALLER` | a second, ten seconds' worth at once: keys and sessions that nobody has seen and that are not there | `500` |
//! | `TENANT_AUTH_UNKNOWN_LOOKUPS` | the same, of all callers together | `2000` |
//! | `TENANT_AUTH_FEED_INTERVAL` | duration between two reads of the change log, ±10 %; `off` for none | `250ms` |

use std::time::Duration;

use super::{
    parse::{parse_duration, parse_number},
    reader::ConfigReader,
};
use crate::{
    cache::CacheConfig,
    domain::{cache_policy::CachePolicy, grace::MAX_GRACE, guess_limiter::GuessLimits},
};

/// What to remember, and how to learn what has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// What to remember, and how long.
    pub records: CacheConfig,
    /// `TENANT_AUTH_UNKNOWN_LOOKUPS_PER_CALLER` and `TENANT_AUTH_UNKNOWN_LOOKUPS`: how many keys and sessions a second may be asked for, by one
    /// caller and by all, that nobody has seen and that turn out not to be there; ten times as many at once. A wrong key in
    /// use is one in five seconds (`TENANT_AUTH_CACHE_NEGATIVE_TTL`), so the default of 500 is that of 2,500 customers with wrong
    /// keys behind one caller; it costs eight statements a second. Default `500` and `2000`.
    pub guess_limits: GuessLimits,
    /// `TENANT_AUTH_FEED_INTERVAL`: the time between two reads of the change log; `None` for no reads.
    pub feed_interval: Option<Duration>,
}

pub(super) fn read(reader: &mut ConfigReader) -> Option<CacheSettings> {
    let entries = || parse_number(1..=100_000_000);
    let max_records = reader.value("TENANT_AUTH_CACHE_KEYS", "100000", entries());
    let max_negative_entries = reader.value("TENANT_AUTH_CACHE_NEGATIVE_ENTRIES", "100000", entries());
    let fresh = reader.value("TENANT_AUTH_CACHE_FRESH", "5s", parse_lifetime);
    let stale_while_revalidate =
        reader.value("TENANT_AUTH_CACHE_STALE_WHILE_REVALIDATE", "60s", |text| parse_at_most(text, 3_600));
    let grace =
        reader.value("TENANT_AUTH_CACHE_GRACE", "4h", |text| parse_at_most(text, MAX_GRACE.as_secs()));
    let negative_ttl = reader.value("TENANT_AUTH_CACHE_NEGATIVE_TTL", "5s", parse_lifetime);
    // The bound on what an unnoticed gap in the stream can cost.
    let reuse_watched =
        reader.value("TENANT_AUTH_CACHE_REUSE_WATCHED", "60s", |text| parse_at_most(text, 600));
    let feed_interval = reader.value("TENANT_AUTH_FEED_INTERVAL", "250ms", parse_feed_interval);
    let rate = || parse_number(1..=1_000_000);
    let per_caller = reader.value("TENANT_AUTH_UNKNOWN_LOOKUPS_PER_CALLER", "500", rate());
    let total = reader.value("TENANT_AUTH_UNKNOWN_LOOKUPS", "2000", rate());
    let whole = |rate: u64| u32::try_from(rate).unwrap_or(u32::MAX);
    let guesses = GuessLimits { per_caller: whole(per_caller?), total: whole(total?) };
    let policy = CachePolicy {
        fresh: fresh?,
        stale_while_revalidate: stale_while_revalidate?,
        grace: grace?,
        negative_ttl: negative_ttl?,
        reuse_watched: reuse_watched?,
    };
    let records =
        CacheConfig { max_records: max_records?, max_negative_entries: max_negative_entries?, policy };
    Some(CacheSettings { records, guess_limits: guesses, feed_interval: feed_interval? })
}

fn parse_at_most(text: &str, most: u64) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    if time <= Duration::from_secs(most) {
        Ok(time)
    } else {
        Err(format!("must be at most {most}s, not {text:?}"))
    }
}

fn parse_feed_interval(text: &str) -> Result<Option<Duration>, String> {
    if text == "off" {
        return Ok(None);
    }
    let time = parse_duration(text)?;
    // Above that, a single lost read would make the feed count as silent.
    if (Duration::from_millis(10)..=Duration::from_millis(500)).contains(&time) {
        Ok(Some(time))
    } else {
        Err(format!("must be from 10ms to 500ms, or off, not {text:?}"))
    }
}

fn parse_lifetime(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    if (Duration::from_millis(100)..=Duration::from_secs(300)).contains(&time) {
        Ok(time)
    } else {
        Err(format!("must be from 100ms to 5m, not {text:?}: it bounds how long a revoked key lives"))
    }
}
