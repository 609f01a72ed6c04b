//! The size of the caches, and how long entries are served.
//!
//! | variable | unit | default |
//! |---|---|---|
//! | `TENANT_AUTH_CACHE_KEYS` | cache size for keys, in weight units: set it to 1.5 times the number of keys in use; a record of more than 1 KiB takes several units | `100000` |
//! | `TENANT_AUTH_CACHE_NEGATIVE_ENTRIES` | maximum number of negative entries (unknown keys), of keys and of sessions each; one with a session id of over 48 characters counts as several | `60000` |
//! | `TENANT_AUTH_CACHE_FRESH` | duration: served without a read; ±20 % per key | `5s` |
//! | `TENANT_AUTH_CACHE_STALE_WHILE_REVALIDATE` | duration: served while a reload runs, if the change feed is live | `60s` |
//! | `TENANT_AUTH_CACHE_GRACE` | duration: served while the database fails; `0s`: never | `4h` |
//! | `TENANT_AUTH_CACHE_NEGATIVE_TTL` | duration: time to live of a negative entry | `5s` |
//! | `TENANT_AUTH_CACHE_REUSE_WATCHED` | duration: how long callers may reuse an answer while they follow the change stream | `60s` |
//! | `TENANT_AUTH_UNKNOWN_LOOKUPS_PER_CALLER` | lookups of unknown keys and sessions that find nothing, per second and caller; the burst is ten times the rate | `500` |
//! | `TENANT_AUTH_UNKNOWN_LOOKUPS` | the same, for all callers together | `2000` |
//! | `TENANT_AUTH_FEED_INTERVAL` | duration between two reads of the change log, ±10 %; `off`: no reads | `250ms` |

use std::time::Duration;

use super::{
    parse::{parse_duration, parse_number},
    reader::ConfigReader,
};
use crate::{
    cache::CacheConfig,
    domain::{cache_policy::CachePolicy, grace::MAX_GRACE, unknown_lookup_limiter::UnknownLookupLimits},
};

/// The settings of the caches, of the limiter of unknown lookups and of the change feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// The size of the caches, and how long entries are served.
    pub records: CacheConfig,
    /// `TENANT_AUTH_UNKNOWN_LOOKUPS_PER_CALLER` and `TENANT_AUTH_UNKNOWN_LOOKUPS`: how many lookups of
    /// unknown keys and sessions per second may find nothing, for one caller and for all callers. The burst
    /// is ten times the rate. A wrong key that is in use costs one such lookup in five seconds
    /// (`TENANT_AUTH_CACHE_NEGATIVE_TTL`). So the default of 500 allows 2,500 customers with wrong keys
    /// behind one caller; that costs eight statements per second. Defaults: `500` and `2000`.
    pub unknown_lookup_limits: UnknownLookupLimits,
    /// `TENANT_AUTH_FEED_INTERVAL`: the time between two reads of the change log; `None`: no reads.
    pub feed_interval: Option<Duration>,
}

pub(super) fn read(reader: &mut ConfigReader) -> Option<CacheSettings> {
    let parse_size = || parse_number(1..=100_000_000);
    let max_records = reader.value("TENANT_AUTH_CACHE_KEYS", "100000", parse_size());
    let max_negative_entries = reader.value("TENANT_AUTH_CACHE_NEGATIVE_ENTRIES", "60000", parse_size());
    let fresh = reader.value("TENANT_AUTH_CACHE_FRESH", "5s", parse_lifetime);
    let stale_while_revalidate =
        reader.value("TENANT_AUTH_CACHE_STALE_WHILE_REVALIDATE", "60s", |text| parse_at_most(text, 3_600));
    let grace =
        reader.value("TENANT_AUTH_CACHE_GRACE", "4h", |text| parse_at_most(text, MAX_GRACE.as_secs()));
    let negative_ttl = reader.value("TENANT_AUTH_CACHE_NEGATIVE_TTL", "5s", parse_lifetime);
    // This limits how long a caller can serve an outdated answer after an undetected gap in the stream.
    let reuse_watched =
        reader.value("TENANT_AUTH_CACHE_REUSE_WATCHED", "60s", |text| parse_at_most(text, 600));
    let feed_interval = reader.value("TENANT_AUTH_FEED_INTERVAL", "250ms", parse_feed_interval);
    let parse_rate = || parse_number(1..=1_000_000);
    let per_caller = reader.value("TENANT_AUTH_UNKNOWN_LOOKUPS_PER_CALLER", "500", parse_rate());
    let total = reader.value("TENANT_AUTH_UNKNOWN_LOOKUPS", "2000", parse_rate());
    let limit = |rate: u64| u32::try_from(rate).unwrap_or(u32::MAX);
    let unknown_lookup_limits = UnknownLookupLimits { per_caller: limit(per_caller?), total: limit(total?) };
    let policy = CachePolicy {
        fresh: fresh?,
        stale_while_revalidate: stale_while_revalidate?,
        grace: grace?,
        negative_ttl: negative_ttl?,
        reuse_watched: reuse_watched?,
    };
    let records =
        CacheConfig { max_records: max_records?, max_negative_entries: max_negative_entries?, policy };
    Some(CacheSettings { records, unknown_lookup_limits, feed_interval: feed_interval? })
}

fn parse_at_most(text: &str, max_seconds: u64) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    if time <= Duration::from_secs(max_seconds) {
        Ok(time)
    } else {
        Err(format!("must be at most {max_seconds}s, not {text:?}"))
    }
}

fn parse_feed_interval(text: &str) -> Result<Option<Duration>, String> {
    if text == "off" {
        return Ok(None);
    }
    let time = parse_duration(text)?;
    // With a longer interval, one failed read would make the feed count as silent.
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
        Err(format!(
            "must be from 100ms to 5m, not {text:?}: it limits how long a revoked key can stay valid"
        ))
    }
}
