//! What to remember, and how long.
//!
//! | variable | unit | default |
//! |---|---|---|
//! | `TENANT_AUTH_CACHE_KEYS` | keys in memory | `100000` |
//! | `TENANT_AUTH_CACHE_ABSENCES` | unknown keys in memory | `100000` |
//! | `TENANT_AUTH_CACHE_FRESH` | duration, ±20 % per key | `5s` |
//! | `TENANT_AUTH_CACHE_ABSENT` | duration | `5s` |

use std::time::Duration;

use super::reader::{Reader, duration, number};
use crate::store::cached::CacheConfig;

/// A load outlives the caller that started it; the database hop has limits of its own well below this.
const LOAD: Duration = Duration::from_secs(2);

pub(super) fn read(reader: &mut Reader) -> Option<CacheConfig> {
    let entries = || number(1..=100_000_000);
    let keys = reader.value("TENANT_AUTH_CACHE_KEYS", "100000", entries());
    let absences = reader.value("TENANT_AUTH_CACHE_ABSENCES", "100000", entries());
    let fresh = reader.value("TENANT_AUTH_CACHE_FRESH", "5s", lifetime);
    let absent = reader.value("TENANT_AUTH_CACHE_ABSENT", "5s", lifetime);
    Some(CacheConfig { keys: keys?, absences: absences?, fresh: fresh?, absent: absent?, load: LOAD })
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if (Duration::from_millis(100)..=Duration::from_secs(300)).contains(&time) {
        Ok(time)
    } else {
        Err(format!("must be from 100ms to 5m, not {text:?}: it bounds how long a revoked key lives"))
    }
}
