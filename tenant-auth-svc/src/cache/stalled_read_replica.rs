//! What a cache answers while the read replica of the database is stalled.

use std::{sync::Arc, time::Duration};

use super::{
    CacheConfig,
    bounds::key,
    pool::{LoadedRecord, Pool},
};
use crate::domain::{
    cache_policy::CachePolicy,
    grace::Grace,
    key::KeyHash,
    verdict::{Revision, Source},
};

#[test]
fn stalled_read_replica_is_usable_within_the_grace_in_force() {
    const MINUTE: Duration = Duration::from_secs(60);
    let policy = CachePolicy {
        fresh: Duration::from_secs(5),
        stale_while_revalidate: MINUTE,
        grace: 2 * MINUTE,
        negative_ttl: Duration::from_secs(5),
        reuse_watched: MINUTE,
    };
    let grace = Arc::new(Grace::new(policy.grace));
    let config = CacheConfig { max_records: 10, max_negative_entries: 10, policy };
    let pool = Pool::new(config, Arc::clone(&grace));
    let now = 10 * MINUTE;
    let is_usable = |age: Duration| {
        let (id, epoch) = (KeyHash::from_bytes([7; 32]), pool.epoch());
        let loaded = LoadedRecord {
            record: Some(key(1, 5)),
            revision: Revision(1),
            loaded_at: now - age,
            epoch,
            is_lagging: false,
        };
        let stale = pool.as_stale(pool.apply_load(&id, loaded, 0, now), now);
        assert_eq!(stale.cached.provenance.source, Source::Stale);
        !stale.is_lagging
    };
    assert_eq!([MINUTE, 3 * MINUTE].map(is_usable), [true, false], "the configured grace");
    grace.set_override(4 * MINUTE, now + MINUTE);
    assert_eq!([MINUTE, 3 * MINUTE].map(is_usable), [true, true], "an operator has lengthened it");
    grace.set_override(Duration::ZERO, now + MINUTE);
    assert_eq!([MINUTE, 3 * MINUTE].map(is_usable), [false, false], "an operator has ended it");
}
